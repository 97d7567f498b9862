# The calls behind r_reviewer.json, written by running this script (versions are in the file).
# lung: R's survival package, complete age, sex and ph.ecog; two made predictions, rounded so that
# they tie. mgus2: progression (1) and death (2) as competing events. Usage: Rscript r_reviewer.R OUT
suppressMessages({library(survival); library(riskRegression); library(jsonlite)})

d <- lung[complete.cases(lung[, c("age", "sex", "ph.ecog")]), ]
d$event <- as.integer(d$status == 2)
d$first <- round(1 - exp(-exp(-0.6 + 0.03 * (d$age - 63) + 0.5 * (d$ph.ecog - 1))), 2)
d$second <- round(1 - exp(-exp(-0.3 + 0.02 * (d$age - 63) - 0.5 * (d$sex - 1))), 2)
h <- 365
S <- function(rows, t = h) summary(survfit(Surv(time, event) ~ 1, data = d[rows, ]), times = t)$surv
n <- nrow(d); all <- rep(TRUE, n)

# Discrimination and Brier score, days made distinct first: riskRegression takes censoring just
# before an event, scikit-survival on its day.
set.seed(1)
e <- d; e$time <- e$time + seq_len(n) / 1000
score <- Score(list(first = as.matrix(cbind(e$first, e$first)), second = as.matrix(cbind(e$second, e$second))),
               Surv(time, event) ~ 1, data = e, times = c(180, h), metrics = c("auc", "brier"),
               cens.model = "km", summary = "ipa", se.fit = TRUE)

# Calibration by the horizon: weights as 1 / P(censoring on or after that day).
g <- survfit(Surv(time, 1 - event) ~ 1, data = d)
# On a day with both, events come first: nobody who had the event is at risk of censoring.
tab <- data.frame(time = g$time, there = g$n.risk - summary(survfit(Surv(time, event) ~ 1, data = d), times = g$time)$n.event, lost = g$n.event)
before <- function(t) prod((1 - tab$lost / pmax(tab$there, 1))[tab$time < t])
known <- (d$event == 1 & d$time <= h) | d$time >= h
w <- ifelse(known, 1 / sapply(pmin(d$time, h), before), 0)
y <- as.integer(d$event == 1 & d$time <= h)
calibrate <- function(p) {
  lp <- log(-log(1 - p))
  a <- suppressWarnings(glm(y ~ 1 + offset(lp), family = quasibinomial("cloglog"), weights = w, control = list(epsilon = 1e-14, maxit = 100)))
  b <- suppressWarnings(glm(y ~ lp, family = quasibinomial("cloglog"), weights = w, control = list(epsilon = 1e-14, maxit = 100)))
  knots <- quantile(lp, c(0.1, 0.5, 0.9))
  x <- Hmisc::rcspline.eval(lp, knots = knots, inclx = TRUE)
  closed <- data.frame(time = pmin(d$time, h), event = ifelse(d$time > h, 0, d$event))
  fit <- coxph(Surv(time, event) ~ x, data = closed, ties = "breslow", control = coxph.control(eps = 1e-12, toler.chol = 1e-13))
  H <- basehaz(fit, centered = FALSE)
  obs <- 1 - exp(-max(H$hazard) * exp(as.vector(x %*% coef(fit))))
  gap <- abs(obs - p)
  list(intercept = unname(coef(a)), slope = unname(coef(b)[2]), observed_to_expected = (1 - S(all)) / mean(p),
       ici = mean(gap), e50 = unname(median(gap)), e90 = unname(quantile(gap, 0.9)), smooth = obs)
}

benefit <- function(p, t) {
  f <- p >= t
  if (!any(f)) return(0)
  mean(f) * (1 - S(f)) - mean(f) * S(f) * t / (1 - t)
}
cuts <- c(0.1, 0.3, 0.5, 0.7, 0.95)
flag <- function(p, t) {
  f <- p >= t; hit <- mean(f) * (1 - S(f)); missed <- mean(!f) * (1 - S(!f))
  list(alert_rate = mean(f), sensitivity = hit / (hit + missed), ppv = 1 - S(f), npv = S(!f))
}
up <- d$second >= 0.5 & d$first < 0.5; down <- d$second < 0.5 & d$first >= 0.5
events <- (sum(up) * (1 - S(up)) - sum(down) * (1 - S(down))) / (n * (1 - S(all)))
nonevents <- (sum(down) * S(down) - sum(up) * S(up)) / (n * S(all))

m <- mgus2
m$etime <- ifelse(m$pstat == 0, m$futime, m$ptime)
m$code <- ifelse(m$pstat == 1, 1, 2 * m$death)
aj <- survfit(Surv(etime, factor(code, 0:2)) ~ 1, data = m)
at <- c(12, 60, 120, 240, 360)
pstate <- summary(aj, times = at)$pstate

out <- list(
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival")),
                  riskRegression = as.character(packageVersion("riskRegression"))),
  lung = list(time = d$time, event = d$event, sex = d$sex, first = d$first, second = d$second, horizon = h),
  score = list(time = e$time, times = c(180, h),
               auc = list(first = score$AUC$score[model == "first"]$AUC, second = score$AUC$score[model == "second"]$AUC),
               brier = list(null = score$Brier$score[model == "Null model"]$Brier,
                            first = score$Brier$score[model == "first"]$Brier, second = score$Brier$score[model == "second"]$Brier),
               ipa = list(first = score$Brier$score[model == "first"]$IPA, second = score$Brier$score[model == "second"]$IPA)),
  calibration = list(first = calibrate(d$first), second = calibrate(d$second)),
  benefit = list(thresholds = cuts, first = sapply(cuts, benefit, p = d$first), second = sapply(cuts, benefit, p = d$second),
                 all = (1 - S(all)) - S(all) * cuts / (1 - cuts)),
  alerts = list(threshold = 0.5, first = flag(d$first, 0.5), second = flag(d$second, 0.5)),
  reclassification = list(cut = 0.5, up = sum(up), down = sum(down), events = events, nonevents = nonevents),
  competing = list(time = m$etime, code = m$code, at = at, progression = pstate[, 2], death = pstate[, 3])
)
write(toJSON(out, digits = 12, auto_unbox = TRUE), commandArgs(TRUE)[1])
