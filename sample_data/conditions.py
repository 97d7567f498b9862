"""The latent conditions of a simulated patient: what makes codes occur together.

A condition is never written to a cohort. It shows only through what it leaves in the record:
diagnoses, drugs, orders and shifted laboratory values. That is why two codes of one condition are
correlated, and why a condition spread over many rare codes (cancer) is hard for a one-hot model
that has seen each code a handful of times.

Codes are written without their system where the field says it: diagnoses are ICD-10-CM, drugs are
RxNorm ingredients by name (see `vocabulary_codes`), orders carry their system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One latent condition.

    prevalence: at 60 years, before `age` (log-odds a decade), `female` (log-odds) and `given`
    (log-odds for each condition the patient already has) act. years: mean time since onset.
    rate: how readily a visit concerns it. chronic: false for a single recent episode, which is
    coded only in the weeks after its onset. diagnoses, drugs: commonest first. labs: shift of a
    laboratory value in population standard deviations. sex: where only one sex has it.
    """

    prevalence: float
    age: float = 0.0
    female: float = 0.0
    given: Mapping[str, float] = field(default_factory=dict)
    years: float = 6.0
    rate: float = 1.0
    chronic: bool = True
    sex: str = ""
    diagnoses: tuple[str, ...] = ()
    drugs: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    labs: Mapping[str, float] = field(default_factory=dict)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


# In order: a condition may only depend on conditions above it.
CONDITIONS: dict[str, Condition] = {
    "smoking": Condition(
        prevalence=0.24,
        age=-0.15,
        female=-0.2,
        years=15,
        rate=0.5,
        diagnoses=_words("F17.210 Z72.0 F17.200"),
        drugs=_names("nicotine, varenicline"),
    ),
    "former_smoking": Condition(
        prevalence=0.25,
        age=0.2,
        female=-0.3,
        given={"smoking": -9},
        years=15,
        rate=0.3,
        diagnoses=_words("Z87.891"),
    ),
    "obesity": Condition(
        prevalence=0.33,
        age=-0.1,
        years=10,
        rate=0.5,
        diagnoses=_words("E66.9 E66.01 Z68.35 Z68.41 Z68.37"),
        drugs=_names("semaglutide, orlistat"),
        labs={"bmi": 1.6, "weight": 1.4, "crp": 0.4, "triglycerides": 0.4},
    ),
    "hypertension": Condition(
        prevalence=0.48,
        age=0.45,
        given={"obesity": 0.6},
        years=9,
        rate=1.2,
        diagnoses=_words("I10 I11.9 I15.9"),
        drugs=_names(
            "lisinopril, amlodipine, hydrochlorothiazide, losartan, metoprolol, atenolol, "
            "valsartan, ramipril, chlorthalidone"
        ),
        labs={"sbp": 0.6, "dbp": 0.5},
    ),
    "hyperlipidaemia": Condition(
        prevalence=0.42,
        age=0.3,
        given={"obesity": 0.4, "hypertension": 0.5},
        years=8,
        rate=0.9,
        diagnoses=_words("E78.5 E78.2 E78.00 E78.1"),
        drugs=_names(
            "atorvastatin, simvastatin, rosuvastatin, pravastatin, ezetimibe, lovastatin, "
            "gemfibrozil, fenofibrate"
        ),
        labs={"ldl": 0.5, "cholesterol": 0.5, "triglycerides": 0.5},
    ),
    "diabetes": Condition(
        prevalence=0.20,
        age=0.2,
        given={"obesity": 0.9, "hypertension": 0.5},
        years=8,
        rate=1.3,
        diagnoses=_words("E11.9 E11.65 E11.22 E11.42 E11.40 E11.319 Z79.4 E11.51 E11.621"),
        drugs=_names(
            "metformin, glipizide, insulin glargine, insulin lispro, glimepiride, "
            "sitagliptin, empagliflozin, liraglutide, pioglitazone, dulaglutide, "
            "glyburide"
        ),
        orders=_words("HCPCS/A4253"),
        labs={"hba1c": 2.2, "glucose": 1.8, "urine_acr": 0.9, "triglycerides": 0.4},
    ),
    "chronic_kidney_disease": Condition(
        prevalence=0.12,
        age=0.5,
        given={"diabetes": 0.8, "hypertension": 0.7},
        years=5,
        rate=1.1,
        diagnoses=_words("N18.30 N18.9 N18.4 N18.2 N18.6 I12.9 D63.1 N25.81 Z99.2"),
        drugs=_names("sevelamer, calcitriol, epoetin alfa, sodium bicarbonate, dapagliflozin"),
        orders=_words("ICD10PCS/5A1D70Z"),
        labs={
            "creatinine": 2.2,
            "bun": 1.8,
            "egfr": -2.0,
            "haemoglobin": -0.7,
            "phosphate": 0.7,
            "potassium": 0.5,
            "urine_acr": 1.3,
            "bicarbonate": -0.6,
        },
    ),
    "coronary_disease": Condition(
        prevalence=0.13,
        age=0.5,
        female=-0.6,
        years=7,
        rate=1.1,
        given={"smoking": 0.5, "diabetes": 0.6, "hypertension": 0.5, "hyperlipidaemia": 0.7},
        diagnoses=_words("I25.10 I25.119 I20.9 Z95.5 I20.0 Z95.1 I25.118"),
        drugs=_names(
            "aspirin, clopidogrel, nitroglycerin, metoprolol, atorvastatin, ranolazine, "
            "isosorbide dinitrate, ticagrelor, prasugrel"
        ),
        orders=_words("ICD10PCS/4A023N7 ICD10PCS/B2111ZZ ICD10PCS/021009W"),
        labs={"ck": 0.3},
    ),
    "myocardial_infarction": Condition(
        prevalence=0.015,
        age=0.3,
        given={"coronary_disease": 2.8, "smoking": 0.4},
        years=4,
        rate=0.8,
        diagnoses=_words("I25.2 I21.4 I21.3 I21.11 I21.9 I21.02"),
        drugs=_names("aspirin, ticagrelor, carvedilol, clopidogrel"),
        orders=_words("ICD10PCS/027034Z"),
        labs={"ck_mb": 0.8},
    ),
    "heart_failure": Condition(
        prevalence=0.08,
        age=0.55,
        years=4,
        rate=1.4,
        given={
            "coronary_disease": 1.0,
            "hypertension": 0.6,
            "diabetes": 0.4,
            "myocardial_infarction": 0.8,
        },
        diagnoses=_words("I50.9 I50.22 I50.32 I50.23 I42.9 I50.33 I42.0 I11.0 R60.0"),
        drugs=_names(
            "furosemide, carvedilol, spironolactone, sacubitril, torsemide, bumetanide, "
            "digoxin, hydralazine, metolazone"
        ),
        labs={"bnp": 1.4, "sodium": -0.5, "bun": 0.5},
    ),
    "atrial_fibrillation": Condition(
        prevalence=0.09,
        age=0.75,
        given={"heart_failure": 1.0, "hypertension": 0.3},
        years=5,
        diagnoses=_words("I48.91 I48.0 I48.20 I48.92 I48.19 Z79.01"),
        drugs=_names(
            "apixaban, warfarin, diltiazem, amiodarone, rivaroxaban, dabigatran "
            "etexilate, flecainide, sotalol, digoxin"
        ),
        labs={"inr": 1.1, "heart_rate": 0.3},
    ),
    "stroke": Condition(
        prevalence=0.05,
        age=0.5,
        years=4,
        rate=0.7,
        given={"atrial_fibrillation": 0.9, "hypertension": 0.5, "diabetes": 0.3, "smoking": 0.3},
        diagnoses=_words("Z86.73 I63.9 I69.354 G45.9 I65.23 I63.50"),
        drugs=_names("clopidogrel, aspirin, atorvastatin, dipyridamole"),
    ),
    "peripheral_artery_disease": Condition(
        prevalence=0.05,
        age=0.5,
        given={"smoking": 0.9, "diabetes": 0.7},
        years=5,
        rate=0.6,
        diagnoses=_words("I73.9 I70.211 I70.213 I70.0"),
        drugs=_names("cilostazol, clopidogrel"),
    ),
    "copd": Condition(
        prevalence=0.11,
        age=0.3,
        given={"smoking": 1.4, "former_smoking": 1.0},
        years=6,
        rate=1.3,
        diagnoses=_words("J44.9 J44.1 J43.9 J44.0 J96.11 Z99.81 R06.09"),
        drugs=_names(
            "albuterol, tiotropium, fluticasone propionate, ipratropium, budesonide, "
            "prednisone, salmeterol, formoterol, azithromycin"
        ),
        orders=_words("HCPCS/E1390"),
        labs={"spo2": -0.9, "bicarbonate": 0.6, "haematocrit": 0.3},
    ),
    "asthma": Condition(
        prevalence=0.09,
        age=-0.2,
        female=0.4,
        years=12,
        rate=0.7,
        diagnoses=_words("J45.909 J45.901 J45.40 J45.20 J30.9"),
        drugs=_names(
            "albuterol, montelukast, budesonide, fluticasone propionate, cetirizine, loratadine"
        ),
        labs={"eosinophils": 1.0},
    ),
    "sleep_apnoea": Condition(
        prevalence=0.10,
        female=-0.5,
        given={"obesity": 1.4},
        years=5,
        rate=0.4,
        diagnoses=_words("G47.33 G47.30 Z99.89"),
        orders=_words("HCPCS/E0601"),
        labs={"bicarbonate": 0.3},
    ),
    "liver_disease": Condition(
        prevalence=0.05,
        given={"obesity": 0.5},
        years=5,
        rate=0.8,
        diagnoses=_words("K76.0 K74.60 K70.30 B18.2 R18.8 K76.6 K72.90"),
        drugs=_names("lactulose, rifaximin, spironolactone, propranolol, ursodiol"),
        orders=_words("ICD10PCS/0W9G3ZZ"),
        labs={
            "alt": 1.2,
            "ast": 1.3,
            "bilirubin": 1.2,
            "albumin": -0.9,
            "platelets": -1.0,
            "inr": 0.7,
            "ggt": 1.4,
        },
    ),
    "alcohol": Condition(
        prevalence=0.07,
        age=-0.3,
        female=-0.7,
        given={"liver_disease": 1.2, "smoking": 0.8},
        years=8,
        rate=0.6,
        diagnoses=_words("F10.20 F10.10 F10.239 F10.21"),
        drugs=_names("thiamine, folic acid, naltrexone"),
        labs={"ggt": 1.2, "mcv": 0.9, "ast": 0.6},
    ),
    "depression": Condition(
        prevalence=0.19,
        age=-0.15,
        female=0.5,
        years=8,
        rate=0.9,
        diagnoses=_words("F32.A F33.1 F33.9 F32.9 F33.0 F34.1"),
        drugs=_names(
            "sertraline, escitalopram, bupropion, fluoxetine, citalopram, venlafaxine, "
            "duloxetine, mirtazapine, trazodone, paroxetine"
        ),
    ),
    "anxiety": Condition(
        prevalence=0.15,
        age=-0.25,
        female=0.5,
        given={"depression": 1.2},
        years=7,
        rate=0.7,
        diagnoses=_words("F41.9 F41.1 F41.0 F43.10 G47.00"),
        drugs=_names(
            "lorazepam, alprazolam, clonazepam, buspirone, zolpidem, hydroxyzine, diazepam"
        ),
    ),
    "psychosis": Condition(
        prevalence=0.025,
        age=-0.2,
        years=10,
        rate=0.8,
        diagnoses=_words("F31.9 F20.9 F25.9 F29"),
        drugs=_names(
            "quetiapine, olanzapine, risperidone, aripiprazole, lithium, haloperidol, "
            "valproic acid, clozapine"
        ),
    ),
    "dementia": Condition(
        prevalence=0.02,
        age=1.2,
        years=3,
        rate=0.7,
        diagnoses=_words("F03.90 G30.9 R41.3 F05 G31.84"),
        drugs=_names("donepezil, memantine, galantamine, quetiapine"),
    ),
    "parkinson": Condition(
        prevalence=0.012,
        age=0.8,
        years=5,
        rate=0.7,
        diagnoses=_words("G20.A1 R25.1"),
        drugs=_names("levodopa, carbidopa, ropinirole"),
    ),
    "epilepsy": Condition(
        prevalence=0.025,
        given={"stroke": 0.9},
        years=9,
        rate=0.6,
        diagnoses=_words("G40.909 R56.9 G40.901"),
        drugs=_names("levetiracetam, lamotrigine, phenytoin, carbamazepine, topiramate"),
    ),
    "migraine": Condition(
        prevalence=0.07,
        age=-0.4,
        female=1.0,
        years=12,
        rate=0.4,
        diagnoses=_words("G43.909 G43.709 R51.9"),
        drugs=_names("sumatriptan, topiramate, propranolol, amitriptyline"),
    ),
    "chronic_pain": Condition(
        prevalence=0.23,
        female=0.2,
        given={"depression": 0.5},
        years=7,
        rate=1.0,
        diagnoses=_words("M54.50 G89.29 M54.2 M79.7 M54.16 G89.4 M48.061"),
        drugs=_names(
            "gabapentin, tramadol, oxycodone, cyclobenzaprine, hydrocodone, ibuprofen, "
            "pregabalin, baclofen, naproxen, lidocaine, nortriptyline, methadone"
        ),
    ),
    "osteoarthritis": Condition(
        prevalence=0.22,
        age=0.5,
        female=0.3,
        given={"obesity": 0.5},
        years=8,
        rate=0.7,
        diagnoses=_words("M17.11 M17.12 M19.90 M16.11 M25.561 M25.562 M16.12 M17.0"),
        drugs=_names("acetaminophen, naproxen, celecoxib, meloxicam, diclofenac, triamcinolone"),
    ),
    "osteoporosis": Condition(
        prevalence=0.07,
        age=0.8,
        female=1.6,
        years=5,
        rate=0.4,
        diagnoses=_words("M81.0 M80.08XA E55.9"),
        drugs=_names("alendronate, cholecalciferol, calcium carbonate, denosumab"),
        labs={"vitamin_d": -0.5},
    ),
    "rheumatoid_arthritis": Condition(
        prevalence=0.025,
        female=0.9,
        years=9,
        rate=0.9,
        diagnoses=_words("M06.9 M05.79 M32.9 M35.00"),
        drugs=_names(
            "methotrexate, hydroxychloroquine, prednisone, adalimumab, sulfasalazine, "
            "leflunomide, azathioprine"
        ),
        labs={"crp": 1.0, "esr": 1.3},
    ),
    "gout": Condition(
        prevalence=0.06,
        age=0.2,
        female=-1.0,
        years=7,
        rate=0.4,
        given={"chronic_kidney_disease": 0.8, "obesity": 0.5},
        diagnoses=_words("M10.9 M1A.9XX0 E79.0"),
        drugs=_names("allopurinol, colchicine, febuxostat"),
        labs={"urate": 1.5},
    ),
    "hypothyroidism": Condition(
        prevalence=0.11,
        age=0.2,
        female=1.1,
        years=9,
        rate=0.6,
        diagnoses=_words("E03.9 E06.3 E89.0"),
        drugs=_names("levothyroxine"),
        labs={"tsh": 0.9},
    ),
    "hyperthyroidism": Condition(
        prevalence=0.012,
        female=0.9,
        years=3,
        rate=0.6,
        diagnoses=_words("E05.90 E05.00"),
        drugs=_names("methimazole, propranolol"),
        labs={"tsh": -2.0, "heart_rate": 0.6},
    ),
    "reflux": Condition(
        prevalence=0.27,
        age=0.1,
        given={"obesity": 0.3},
        years=7,
        rate=0.6,
        diagnoses=_words("K21.9 K21.00 K29.70 R13.10 K44.9"),
        drugs=_names(
            "omeprazole, pantoprazole, famotidine, ranitidine, esomeprazole, lansoprazole"
        ),
        orders=_words("ICD10PCS/0DJ08ZZ"),
    ),
    "bowel_disease": Condition(
        prevalence=0.10,
        female=0.2,
        years=6,
        rate=0.6,
        diagnoses=_words("K59.00 K57.30 K50.90 K51.90 K58.9 K64.9 K57.92 R19.7"),
        drugs=_names(
            "docusate, polyethylene glycol 3350, sennosides, mesalamine, bisacodyl, loperamide"
        ),
        orders=_words("ICD10PCS/0DJD8ZZ HCPCS/G0121"),
    ),
    "anaemia": Condition(
        prevalence=0.13,
        age=0.25,
        female=0.4,
        given={"chronic_kidney_disease": 0.9},
        years=3,
        rate=0.8,
        diagnoses=_words("D64.9 D50.9 D62 D63.8 D51.9 D50.0"),
        drugs=_names("ferrous sulfate, folic acid, vitamin B12"),
        orders=_words("ICD10PCS/30233N1"),
        labs={
            "haemoglobin": -1.6,
            "haematocrit": -1.6,
            "ferritin": -0.9,
            "iron": -1.0,
            "rdw": 1.0,
            "erythrocytes": -1.2,
        },
    ),
    "prostate_hyperplasia": Condition(
        prevalence=0.25,
        age=0.7,
        sex="M",
        years=6,
        rate=0.5,
        diagnoses=_words("N40.1 N40.0 R33.9 R35.1"),
        drugs=_names("tamsulosin, finasteride, doxazosin"),
        labs={"psa": 0.5},
    ),
    "urinary_infection": Condition(
        prevalence=0.10,
        age=0.2,
        female=0.9,
        years=0.8,
        rate=0.8,
        chronic=False,
        diagnoses=_words("N39.0 R30.0 N30.00 R31.9 B96.20"),
        drugs=_names("nitrofurantoin, ciprofloxacin, sulfamethoxazole / trimethoprim, cephalexin"),
        labs={"leukocytes": 0.6},
    ),
    "pneumonia": Condition(
        prevalence=0.10,
        age=0.3,
        given={"copd": 0.8, "smoking": 0.2},
        years=0.6,
        rate=1.4,
        chronic=False,
        diagnoses=_words("J18.9 J15.9 J20.9 J90 R05.9 J06.9 J96.01"),
        drugs=_names(
            "azithromycin, ceftriaxone, levofloxacin, doxycycline, amoxicillin, methylprednisolone"
        ),
        orders=_words("HCPCS/J0696"),
        labs={"leukocytes": 1.1, "crp": 1.6, "procalcitonin": 1.0, "temperature": 0.9},
    ),
    "sepsis": Condition(
        prevalence=0.04,
        age=0.3,
        given={"urinary_infection": 0.7, "pneumonia": 0.8},
        years=0.4,
        rate=1.6,
        chronic=False,
        diagnoses=_words("A41.9 R65.20 N17.9 R78.81 R65.21 A41.51"),
        drugs=_names(
            "vancomycin, piperacillin, cefepime, meropenem, norepinephrine, "
            "metronidazole, ceftriaxone, hydrocortisone"
        ),
        orders=_words("ICD10PCS/02HV33Z ICD10PCS/0BH17EZ ICD10PCS/5A1945Z"),
        labs={
            "leukocytes": 1.6,
            "crp": 1.8,
            "procalcitonin": 1.8,
            "lactate": 1.0,
            "platelets": -0.5,
        },
    ),
    "covid": Condition(
        prevalence=0.05,
        years=0.5,
        rate=1.0,
        chronic=False,
        diagnoses=_words("U07.1 J12.82 Z86.16"),
        drugs=_names("dexamethasone, remdesivir"),
        labs={"crp": 1.3, "ferritin": 1.0},
    ),
    "cellulitis": Condition(
        prevalence=0.05,
        given={"obesity": 0.5, "diabetes": 0.4},
        years=0.7,
        chronic=False,
        diagnoses=_words("L03.115 L03.116 L03.90 L97.909"),
        drugs=_names("cephalexin, clindamycin, doxycycline, vancomycin"),
        labs={"leukocytes": 0.8, "crp": 1.0},
    ),
    "major_surgery": Condition(
        prevalence=0.13,
        years=0.15,
        rate=2.2,
        chronic=False,
        diagnoses=_words("Z98.890 Z96.651 Z96.652 Z96.641 Z47.1 K80.20 Z48.815 T81.40XA"),
        drugs=_names(
            "cefazolin, oxycodone, enoxaparin, ondansetron, hydromorphone, morphine, "
            "acetaminophen, docusate, propofol, fentanyl, ketorolac"
        ),
        orders=_words("ICD10PCS/0SRC0J9 ICD10PCS/0SRD0J9 ICD10PCS/0FT44ZZ ICD10PCS/0DTJ4ZZ"),
        labs={"haemoglobin": -0.8, "leukocytes": 0.6},
    ),
    "fracture": Condition(
        prevalence=0.06,
        age=0.5,
        given={"osteoporosis": 0.9, "dementia": 0.6},
        years=0.3,
        rate=1.5,
        chronic=False,
        diagnoses=_words("S72.001A S52.501A S82.891A S32.9XXA W19.XXXA S22.41XA"),
        drugs=_names("hydromorphone, oxycodone, acetaminophen, enoxaparin"),
        orders=_words("HCPCS/E0143"),
    ),
    "immobility": Condition(
        prevalence=0.07,
        age=0.5,
        years=0.4,
        rate=1.0,
        chronic=False,
        given={"fracture": 1.6, "major_surgery": 0.8, "stroke": 0.8, "dementia": 0.8},
        diagnoses=_words("Z74.01 Z74.09 R26.2 M62.81 R53.81 L89.152 Z99.3"),
        drugs=_names("heparin, enoxaparin"),
        orders=_words("HCPCS/K0001 HCPCS/E0100"),
        labs={"albumin": -0.7},
    ),
    "venous_thromboembolism": Condition(
        prevalence=0.08,
        age=0.1,
        given={"immobility": 0.6, "obesity": 0.3},
        years=4,
        rate=0.8,
        diagnoses=_words("Z86.718 I82.401 Z86.711 I82.402 I82.409 I87.2 D68.51 D68.59"),
        drugs=_names("rivaroxaban, warfarin, enoxaparin, apixaban"),
        orders=_words("ICD10PCS/06H03DZ"),
        labs={"d_dimer": 0.3, "inr": 0.6},
    ),
    "contraception": Condition(
        prevalence=0.10,
        age=-1.6,
        sex="F",
        years=3,
        rate=0.5,
        diagnoses=_words("Z30.41 Z30.9 N92.0 Z79.3"),
        drugs=_names("ethinyl estradiol, levonorgestrel, norethindrone, medroxyprogesterone"),
    ),
    "menopause": Condition(
        prevalence=0.13,
        age=0.1,
        sex="F",
        years=4,
        rate=0.4,
        diagnoses=_words("N95.1 Z12.31 Z78.0 Z79.890 N95.2"),
        drugs=_names("estradiol, progesterone"),
    ),
    "malnutrition": Condition(
        prevalence=0.05,
        age=0.4,
        given={"dementia": 0.6, "sepsis": 0.5},
        years=0.8,
        rate=0.8,
        diagnoses=_words("E46 E43 R63.4 R64 E44.0"),
        drugs=_names("megestrol"),
        labs={"albumin": -1.6, "prealbumin": -1.4, "bmi": -1.0, "weight": -0.9},
    ),
    "eye_disease": Condition(
        prevalence=0.16,
        age=0.7,
        given={"diabetes": 0.3},
        years=6,
        rate=0.4,
        diagnoses=_words("H25.13 H40.9 H40.1190 H52.4 H35.30 H04.123"),
        drugs=_names("latanoprost, timolol"),
    ),
    "skin_disease": Condition(
        prevalence=0.14,
        years=6,
        rate=0.4,
        diagnoses=_words("L30.9 L57.0 L40.9 L82.1 B35.1 L20.9"),
        drugs=_names("triamcinolone, hydrocortisone, terbinafine"),
    ),
    "wellness": Condition(
        prevalence=0.75,
        years=12,
        rate=0.7,
        diagnoses=_words("Z00.00 Z23 Z12.11 Z79.899 Z13.220"),
        orders=_words("HCPCS/G0008 HCPCS/G0009"),
    ),
    "symptoms": Condition(
        prevalence=0.9,
        years=12,
        rate=0.8,
        diagnoses=_words(
            "R53.83 R10.9 R42 R11.2 R55 R00.2 R07.89 R50.9 N28.1 E87.6 E86.0 "
            "R73.03 D72.829 E87.1 R91.8 R79.89"
        ),
        drugs=_names("ondansetron, acetaminophen, meclizine, potassium chloride, diphenhydramine"),
        orders=_words("HCPCS/J2405 HCPCS/J1885"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Cancer:
    """A primary site: its share among the cancers of a sex, its codes, treatment, marker."""

    share: float
    diagnoses: tuple[str, ...]
    drugs: tuple[str, ...]
    sex: str = ""
    marker: str = ""


CANCERS: dict[str, Cancer] = {
    "lung": Cancer(
        share=20,
        diagnoses=_words("C34.11 C34.12 C34.90 C34.31 C34.32 C34.2"),
        marker="cea",
        drugs=_names(
            "carboplatin, pemetrexed, pembrolizumab, paclitaxel, etoposide, nivolumab, cisplatin"
        ),
    ),
    "breast": Cancer(
        share=18,
        sex="F",
        diagnoses=_words("C50.911 C50.912 C50.411 C50.412 C50.919 C50.811"),
        drugs=_names(
            "paclitaxel, letrozole, trastuzumab, tamoxifen, anastrozole, doxorubicin, "
            "cyclophosphamide, docetaxel, capecitabine"
        ),
    ),
    "prostate": Cancer(
        share=15,
        sex="M",
        diagnoses=_words("C61"),
        marker="psa",
        drugs=_names("leuprolide, bicalutamide, docetaxel, abiraterone"),
    ),
    "colorectal": Cancer(
        share=12,
        diagnoses=_words("C18.9 C20 C18.7 C18.2 C19 C18.0"),
        marker="cea",
        drugs=_names(
            "fluorouracil, oxaliplatin, leucovorin, bevacizumab, irinotecan, cetuximab, "
            "capecitabine"
        ),
    ),
    "pancreas": Cancer(
        share=8,
        diagnoses=_words("C25.0 C25.9 C25.1 C25.2"),
        marker="ca_19_9",
        drugs=_names("gemcitabine, paclitaxel, fluorouracil, irinotecan, oxaliplatin"),
    ),
    "stomach": Cancer(
        share=4,
        diagnoses=_words("C16.0 C16.9 C16.3"),
        marker="cea",
        drugs=_names("fluorouracil, oxaliplatin, docetaxel"),
    ),
    "oesophagus": Cancer(
        share=3,
        diagnoses=_words("C15.5 C15.9 C15.4"),
        drugs=_names("carboplatin, paclitaxel, nivolumab"),
    ),
    "liver": Cancer(
        share=4,
        diagnoses=_words("C22.0 C22.1 C22.9"),
        drugs=_names("sorafenib, atezolizumab, bevacizumab"),
    ),
    "kidney": Cancer(
        share=4,
        diagnoses=_words("C64.1 C64.2 C64.9"),
        drugs=_names("sunitinib, nivolumab, pazopanib, everolimus"),
    ),
    "bladder": Cancer(
        share=5,
        diagnoses=_words("C67.9 C67.2 C67.4"),
        drugs=_names("cisplatin, gemcitabine, pembrolizumab"),
    ),
    "ovary": Cancer(
        share=5,
        sex="F",
        diagnoses=_words("C56.1 C56.2 C56.9"),
        marker="ca_125",
        drugs=_names("carboplatin, paclitaxel, bevacizumab"),
    ),
    "uterus": Cancer(
        share=5,
        sex="F",
        diagnoses=_words("C54.1 C55"),
        marker="ca_125",
        drugs=_names("carboplatin, paclitaxel"),
    ),
    "cervix": Cancer(
        share=2, sex="F", diagnoses=_words("C53.9 C53.0"), drugs=_names("cisplatin, bevacizumab")
    ),
    "brain": Cancer(
        share=4,
        diagnoses=_words("C71.9 C71.1 C71.2"),
        drugs=_names("temozolomide, dexamethasone, levetiracetam, bevacizumab"),
    ),
    "melanoma": Cancer(
        share=3, diagnoses=_words("C43.9 C43.59 C43.61"), drugs=_names("nivolumab, pembrolizumab")
    ),
    "head_and_neck": Cancer(
        share=4, diagnoses=_words("C10.9 C32.9 C02.9 C01"), drugs=_names("cisplatin, cetuximab")
    ),
    "thyroid": Cancer(share=2, diagnoses=_words("C73"), drugs=_names("levothyroxine")),
    "lymphoma": Cancer(
        share=9,
        diagnoses=_words("C83.30 C85.90 C82.90 C81.90 C83.10 C83.38"),
        drugs=_names(
            "rituximab, cyclophosphamide, doxorubicin, vincristine, prednisone, bendamustine"
        ),
    ),
    "myeloma": Cancer(
        share=4,
        diagnoses=_words("C90.00 C90.02"),
        drugs=_names("bortezomib, lenalidomide, dexamethasone"),
    ),
    "leukaemia": Cancer(
        share=6,
        diagnoses=_words("C91.10 C92.00 C92.10 C91.00 C95.90"),
        drugs=_names("imatinib, cytarabine, daunorubicin, azacitidine, ibrutinib, mercaptopurine"),
    ),
    "sarcoma": Cancer(
        share=2, diagnoses=_words("C49.9 C49.21"), drugs=_names("doxorubicin, ifosfamide")
    ),
    "mesothelioma": Cancer(
        share=1, diagnoses=_words("C45.0 C45.1"), drugs=_names("pemetrexed, cisplatin")
    ),
    "testis": Cancer(
        share=1,
        sex="M",
        diagnoses=_words("C62.90 C62.91"),
        drugs=_names("bleomycin, etoposide, cisplatin"),
    ),
}

METASTASES = _words("C79.51 C78.7 C78.01 C77.1 C79.31 C78.02 C77.9 C78.2 C78.6 C79.89")

CANCER_CARE = Condition(
    prevalence=0.0,
    years=0.9,
    rate=3.2,
    diagnoses=_words("Z51.11 D70.1 R11.0 G89.3 Z45.2 C80.1 D64.81 Z79.891 Z51.5"),
    drugs=_names(
        "ondansetron, dexamethasone, filgrastim, morphine, oxycodone, prochlorperazine, "
        "palonosetron, fentanyl"
    ),
    orders=_words("ICD10PCS/3E04305 ICD10PCS/3E03305 ICD10PCS/02HV33Z ICD10PCS/30233N1"),
    labs={
        "haemoglobin": -1.0,
        "haematocrit": -0.9,
        "albumin": -0.8,
        "platelets": -0.3,
        "ldh": 0.9,
        "alp": 0.6,
        "lymphocytes": -0.7,
    },
)

CANCER_HISTORY = _words("Z85.3 Z85.46 Z85.038 Z85.118 Z85.820 Z85.51 Z85.72 Z85.42 Z85.528")

INDEX_COMPLAINTS = {
    "pe": _words("R06.02 R07.9 R00.0 R06.00 R09.02 R07.1 R04.2 R55 M79.661"),
    "cvd": _words("Z13.6 R07.9 R07.89 Z82.49 R06.00 R94.31"),
}
