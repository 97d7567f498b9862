# The calls behind r_survival.json: R's survival package on its own data sets. The values are the
# well-known printed answers, entered by hand and not by running this script; tests allow half a
# unit of the last printed digit.
library(survival)

survfit(Surv(time, status) ~ x, data = aml)             # summary(): survival, std.err
print(survfit(Surv(time, status) ~ x, data = aml), print.rmean = TRUE)   # rmean to day 161
survdiff(Surv(time, status) ~ x, data = aml)
coxph(Surv(time, status) ~ x, data = aml)               # Nonmaintained against Maintained, Efron

print(survfit(Surv(time, status) ~ 1, data = lung), print.rmean = TRUE)  # rmean to day 1022
survdiff(Surv(time, status) ~ sex, data = lung)
summary(coxph(Surv(time, status) ~ sex, data = lung))   # women against men; concordance
summary(coxph(Surv(time, status) ~ age + sex, data = lung))              # concordance
