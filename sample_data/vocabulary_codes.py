# ruff: noqa: E501  (a description stays on one line, however long its system made it)
"""The codes of the simulated record: real codes with the descriptions their systems give them.

ICD-10-CM and ICD-10-PCS (CMS and NCHS, public domain), HCPCS level II (CMS, public domain),
RxNorm ingredients (US National Library of Medicine), LOINC (this material contains content from
LOINC, http://loinc.org, copyright Regenstrief Institute, Inc. and the LOINC Committee, available
at no cost under the licence at http://loinc.org/license), visit and gender concepts as OMOP names
them. CPT is left out because its descriptions are not free.

Only data; who has which code is said in `conditions` and `ehr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BIRTH = "MEDS_BIRTH"
SMOKING_STATUS = "LOINC/72166-2"


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A laboratory value or vital sign.

    mean, sd: of healthy adults, in `unit`; of the natural logarithm when `scale` is "log".
    low, high: the limits of what is reported. other_code: what a second laboratory uses for the
    same quantity; its values are `other_factor` times as large.
    """

    name: str
    code: str
    unit: str
    scale: Literal["linear", "log"]
    mean: float
    sd: float
    low: float
    high: float
    decimals: int
    other_code: str = ""
    other_factor: float = 1.0
    other_decimals: int = 0


# name | LOINC | long common name | UCUM unit | scale | mean | sd | low | high | decimals
_LABS = """
heart_rate|8867-4|Heart rate|/min|linear|76|11|35|190|0
sbp|8480-6|Systolic blood pressure|mm[Hg]|linear|126|13|60|230|0
dbp|8462-4|Diastolic blood pressure|mm[Hg]|linear|76|9|35|130|0
respiratory_rate|9279-1|Respiratory rate|/min|linear|16|2|8|50|0
spo2|59408-5|Oxygen saturation in Arterial blood by Pulse oximetry|%|linear|97|1.4|65|100|0
temperature|8310-5|Body temperature|Cel|linear|36.8|0.35|34|41|1
weight|29463-7|Body weight|kg|linear|80|14|38|190|1
height|8302-2|Body height|cm|linear|170|9|140|205|0
bmi|39156-5|Body mass index (BMI) [Ratio]|kg/m2|linear|26.5|3.6|15|58|1
creatinine|2160-0|Creatinine [Mass/volume] in Serum or Plasma|mg/dL|log|-0.13|0.22|0.3|14|2
bun|3094-0|Urea nitrogen [Mass/volume] in Serum or Plasma|mg/dL|log|2.71|0.30|3|150|0
egfr|33914-3|Glomerular filtration rate [Volume Rate/Area] in Serum or Plasma by Creatinine-based formula (MDRD)/1.73 sq M|mL/min/{1.73_m2}|linear|84|17|5|130|0
sodium|2951-2|Sodium [Moles/volume] in Serum or Plasma|mmol/L|linear|139.5|2.4|112|165|0
potassium|2823-3|Potassium [Moles/volume] in Serum or Plasma|mmol/L|linear|4.15|0.38|2.2|7.5|1
chloride|2075-0|Chloride [Moles/volume] in Serum or Plasma|mmol/L|linear|103|3|80|125|0
bicarbonate|2028-9|Carbon dioxide, total [Moles/volume] in Serum or Plasma|mmol/L|linear|25.5|2.3|8|45|0
calcium|17861-6|Calcium [Mass/volume] in Serum or Plasma|mg/dL|linear|9.3|0.42|5.5|15|1
magnesium|19123-9|Magnesium [Mass/volume] in Serum or Plasma|mg/dL|linear|2.0|0.2|0.8|4.5|1
phosphate|2777-1|Phosphate [Mass/volume] in Serum or Plasma|mg/dL|linear|3.5|0.55|0.8|10|1
glucose|2345-7|Glucose [Mass/volume] in Serum or Plasma|mg/dL|log|4.60|0.15|35|700|0
hba1c|4548-4|Hemoglobin A1c/Hemoglobin.total in Blood|%|linear|5.5|0.45|4|15|1
haemoglobin|718-7|Hemoglobin [Mass/volume] in Blood|g/dL|linear|13.7|1.35|4.5|20|1
haematocrit|4544-3|Hematocrit [Volume Fraction] of Blood by Automated count|%|linear|41|4|14|62|1
erythrocytes|789-8|Erythrocytes [#/volume] in Blood by Automated count|10*6/uL|linear|4.6|0.45|1.5|7.5|2
leukocytes|6690-2|Leukocytes [#/volume] in Blood by Automated count|10*3/uL|log|1.97|0.28|0.3|60|1
platelets|777-3|Platelets [#/volume] in Blood by Automated count|10*3/uL|linear|238|58|8|900|0
mcv|787-2|MCV [Entitic mean volume] in Red Blood Cells by Automated count|fL|linear|90|5|60|125|0
rdw|788-0|Erythrocyte [DistWidth] in Red Blood Cells by Automated count|%|linear|13.6|1.1|11|27|1
neutrophils|751-8|Neutrophils [#/volume] in Blood by Automated count|10*3/uL|log|1.48|0.35|0.1|50|2
lymphocytes|731-0|Lymphocytes [#/volume] in Blood by Automated count|10*3/uL|log|0.6|0.35|0.1|20|2
eosinophils|711-2|Eosinophils [#/volume] in Blood by Automated count|10*3/uL|log|-1.8|0.6|0.01|8|2
alt|1742-6|Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|3.1|0.40|4|3000|0
ast|1920-8|Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|3.1|0.33|5|3000|0
alp|6768-6|Alkaline phosphatase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|4.35|0.28|15|1500|0
ggt|2324-2|Gamma glutamyl transferase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|3.3|0.5|4|2000|0
bilirubin|1975-2|Bilirubin.total [Mass/volume] in Serum or Plasma|mg/dL|log|-0.6|0.4|0.1|30|1
bilirubin_direct|1968-7|Bilirubin.direct [Mass/volume] in Serum or Plasma|mg/dL|log|-1.9|0.45|0.1|20|1
albumin|1751-7|Albumin [Mass/volume] in Serum or Plasma|g/dL|linear|4.1|0.35|1.2|5.5|1
prealbumin|14338-8|Prealbumin [Mass/volume] in Serum or Plasma|mg/dL|linear|26|5|3|50|0
protein|2885-2|Protein [Mass/volume] in Serum or Plasma|g/dL|linear|7.1|0.5|3|11|1
ldh|2532-0|Lactate dehydrogenase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|5.2|0.22|80|4000|0
cholesterol|2093-3|Cholesterol [Mass/volume] in Serum or Plasma|mg/dL|linear|186|34|70|420|0
ldl|13457-7|Cholesterol in LDL [Mass/volume] in Serum or Plasma by calculation|mg/dL|linear|108|29|20|320|0
hdl|2085-9|Cholesterol in HDL [Mass/volume] in Serum or Plasma|mg/dL|linear|52|13|15|120|0
triglycerides|2571-8|Triglyceride [Mass/volume] in Serum or Plasma|mg/dL|log|4.75|0.42|25|2000|0
bnp|33762-6|Natriuretic peptide.B prohormone N-Terminal [Mass/volume] in Serum or Plasma|pg/mL|log|4.6|0.9|5|70000|0
troponin|10839-9|Troponin I.cardiac [Mass/volume] in Serum or Plasma|ng/mL|log|-4.0|0.8|0.005|50|3
ck|2157-6|Creatine kinase [Enzymatic activity/volume] in Serum or Plasma|U/L|log|4.6|0.5|15|20000|0
ck_mb|13969-1|Creatine kinase.MB [Mass/volume] in Serum or Plasma|ng/mL|log|0.6|0.6|0.2|300|1
lactate|2524-7|Lactate [Moles/volume] in Serum or Plasma|mmol/L|log|0.25|0.3|0.3|20|1
d_dimer|48065-7|Fibrin D-dimer FEU [Mass/volume] in Platelet poor plasma|ug/mL{FEU}|log|-0.9|0.7|0.1|60|2
inr|6301-6|INR in Platelet poor plasma by Coagulation assay|{INR}|log|0.05|0.09|0.8|10|1
prothrombin_time|5902-2|Prothrombin time (PT)|s|log|2.5|0.08|9|90|1
aptt|14979-9|aPTT in Platelet poor plasma by Coagulation assay|s|log|3.4|0.12|18|150|1
fibrinogen|3255-7|Fibrinogen [Mass/volume] in Platelet poor plasma by Coagulation assay|mg/dL|linear|340|70|60|900|0
crp|1988-5|C reactive protein [Mass/volume] in Serum or Plasma|mg/L|log|1.2|1.0|0.2|450|1
esr|4537-7|Erythrocyte sedimentation rate by Westergren method|mm/h|log|2.7|0.6|1|140|0
procalcitonin|33959-8|Procalcitonin [Mass/volume] in Serum or Plasma|ng/mL|log|-2.5|0.8|0.02|100|2
ferritin|2276-4|Ferritin [Mass/volume] in Serum or Plasma|ng/mL|log|4.5|0.8|3|8000|0
iron|2498-4|Iron [Mass/volume] in Serum or Plasma|ug/dL|linear|85|28|8|250|0
b12|2132-9|Cobalamin (Vitamin B12) [Mass/volume] in Serum or Plasma|pg/mL|log|6.1|0.4|80|2000|0
vitamin_d|1989-3|25-hydroxyvitamin D3 [Mass/volume] in Serum or Plasma|ng/mL|linear|29|9|4|100|0
tsh|3016-3|Thyrotropin [Units/volume] in Serum or Plasma|m[IU]/L|log|0.6|0.55|0.01|100|2
urate|3084-1|Urate [Mass/volume] in Serum or Plasma|mg/dL|linear|5.4|1.3|1.5|15|1
urine_acr|9318-7|Albumin/Creatinine [Mass Ratio] in Urine|mg/g|log|2.3|1.0|1|5000|0
psa|2857-1|Prostate specific Ag [Mass/volume] in Serum or Plasma|ng/mL|log|0.2|0.8|0.05|800|2
cea|2039-6|Carcinoembryonic Ag [Mass/volume] in Serum or Plasma|ng/mL|log|0.5|0.6|0.3|2000|1
ca_125|10334-1|Cancer Ag 125 [Units/volume] in Serum or Plasma|U/mL|log|2.6|0.5|2|8000|0
ca_19_9|24108-3|Cancer Ag 19-9 [Units/volume] in Serum or Plasma|U/mL|log|2.4|0.6|1|20000|0
arterial_ph|2744-1|pH of Arterial blood|[pH]|linear|7.41|0.04|6.85|7.65|2
arterial_po2|2703-7|Oxygen [Partial pressure] in Arterial blood|mm[Hg]|linear|84|10|35|400|0
arterial_pco2|2019-8|Carbon dioxide [Partial pressure] in Arterial blood|mm[Hg]|linear|39|4|15|110|0
"""

# name | other LOINC | long common name | UCUM unit | factor | decimals
_OTHER_LABS = """
troponin|89579-7|Troponin I.cardiac [Mass/volume] in Serum or Plasma by High sensitivity method|ng/L|1000|0
lactate|32693-4|Lactate [Moles/volume] in Blood|mmol/L|1|1
glucose|2339-0|Glucose [Mass/volume] in Blood|mg/dL|1|0
d_dimer|48066-5|Fibrin D-dimer DDU [Mass/volume] in Platelet poor plasma|ng/mL{DDU}|500|0
ldl|18262-6|Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay|mg/dL|1|0
hba1c|17856-6|Hemoglobin A1c/Hemoglobin.total in Blood by HPLC|%|1|1
spo2|2708-6|Oxygen saturation in Arterial blood|%|1|0
creatinine|38483-4|Creatinine [Mass/volume] in Blood|mg/dL|1|2
haematocrit|20570-8|Hematocrit [Volume Fraction] of Blood|%|1|1
inr|34714-6|INR in Blood by Coagulation assay|{INR}|1|1
crp|30522-7|C reactive protein [Mass/volume] in Serum or Plasma by High sensitivity method|mg/L|1|2
egfr|62238-1|Glomerular filtration rate [Volume Rate/Area] in Serum or Plasma by Creatinine-based formula (CKD-EPI)/1.73 sq M|mL/min/{1.73_m2}|1|0
calcium|2000-8|Calcium [Moles/volume] in Serum or Plasma|mmol/L|0.2495|2
magnesium|2601-3|Magnesium [Moles/volume] in Serum or Plasma|mmol/L|0.4114|2
"""

# A site's habit for the same thing: code at site A | code at site B
_OTHER_CODES = """
ICD10CM/I50.9|ICD10CM/I50.22
ICD10CM/E11.9|ICD10CM/E11.65
ICD10CM/N18.9|ICD10CM/N18.30
ICD10CM/J44.9|ICD10CM/J44.1
ICD10CM/I48.91|ICD10CM/I48.0
ICD10CM/E78.5|ICD10CM/E78.2
ICD10CM/F32.A|ICD10CM/F32.9
ICD10CM/C34.90|ICD10CM/C34.11
ICD10CM/C50.919|ICD10CM/C50.911
ICD10CM/C18.9|ICD10CM/C18.2
ICD10CM/M54.50|ICD10CM/M54.2
ICD10CM/R07.9|ICD10CM/R07.89
ICD10CM/R06.02|ICD10CM/R06.00
RxNorm/83367|RxNorm/36567
RxNorm/29046|RxNorm/35296
RxNorm/1364430|RxNorm/1114195
RxNorm/4603|RxNorm/38413
RxNorm/7646|RxNorm/40790
RxNorm/36437|RxNorm/321988
RxNorm/4821|RxNorm/25789
"""

_VISITS = """
Visit/IP|Inpatient Visit
Visit/OP|Outpatient Visit
Visit/ER|Emergency Room Visit
Gender/F|FEMALE
Gender/M|MALE
"""

_PROCEDURES = """
ICD10PCS/021009W|Bypass Coronary Artery, One Artery from Aorta with Autologous Venous Tissue, Open Approach
ICD10PCS/027034Z|Dilation of Coronary Artery, One Artery with Drug-eluting Intraluminal Device, Percutaneous Approach
ICD10PCS/02HV33Z|Insertion of Infusion Device into Superior Vena Cava, Percutaneous Approach
ICD10PCS/06H03DZ|Insertion of Intraluminal Device into Inferior Vena Cava, Percutaneous Approach
ICD10PCS/0BH17EZ|Insertion of Endotracheal Airway into Trachea, Via Natural or Artificial Opening
ICD10PCS/0DJ08ZZ|Inspection of Upper Intestinal Tract, Via Natural or Artificial Opening Endoscopic
ICD10PCS/0DJD8ZZ|Inspection of Lower Intestinal Tract, Via Natural or Artificial Opening Endoscopic
ICD10PCS/0DTJ4ZZ|Resection of Appendix, Percutaneous Endoscopic Approach
ICD10PCS/0FT44ZZ|Resection of Gallbladder, Percutaneous Endoscopic Approach
ICD10PCS/0SRC0J9|Replacement of Right Knee Joint with Synthetic Substitute, Cemented, Open Approach
ICD10PCS/0SRD0J9|Replacement of Left Knee Joint with Synthetic Substitute, Cemented, Open Approach
ICD10PCS/0W9G3ZZ|Drainage of Peritoneal Cavity, Percutaneous Approach
ICD10PCS/30233N1|Transfusion of Nonautologous Red Blood Cells into Peripheral Vein, Percutaneous Approach
ICD10PCS/3E03305|Introduction of Other Antineoplastic into Peripheral Vein, Percutaneous Approach
ICD10PCS/3E04305|Introduction of Other Antineoplastic into Central Vein, Percutaneous Approach
ICD10PCS/4A023N7|Measurement of Cardiac Sampling and Pressure, Left Heart, Percutaneous Approach
ICD10PCS/5A1945Z|Respiratory Ventilation, 24-96 Consecutive Hours
ICD10PCS/5A1D70Z|Performance of Urinary Filtration, Intermittent, Less than 6 Hours Per Day
ICD10PCS/B2111ZZ|Fluoroscopy of Multiple Coronary Arteries using Low Osmolar Contrast
HCPCS/A4253|Blood glucose test or reagent strips for home blood glucose monitor, per 50 strips
HCPCS/E0100|Cane, includes canes of all materials, adjustable or fixed, with tip
HCPCS/E0143|Walker, folding, wheeled, adjustable or fixed height
HCPCS/E0601|Continuous positive airway pressure (CPAP) device
HCPCS/E1390|Oxygen concentrator, single delivery port, capable of delivering 85 percent or greater oxygen concentration at the prescribed flow rate
HCPCS/G0008|Administration of influenza virus vaccine
HCPCS/G0009|Administration of pneumococcal vaccine
HCPCS/G0121|Colorectal cancer screening; colonoscopy on individual not meeting criteria for high risk
HCPCS/J0696|Injection, ceftriaxone sodium, per 250 mg
HCPCS/J1885|Injection, ketorolac tromethamine, per 15 mg
HCPCS/J2405|Injection, ondansetron hydrochloride, per 1 mg
HCPCS/K0001|Standard wheelchair
"""

# RxCUI | ingredient
_RXNORM = """
1100072|abiraterone
161|acetaminophen
327361|adalimumab
435|albuterol
46041|alendronate
519|allopurinol
596|alprazolam
703|amiodarone
704|amitriptyline
17767|amlodipine
723|amoxicillin
84857|anastrozole
1364430|apixaban
89013|aripiprazole
1191|aspirin
1202|atenolol
1792776|atezolizumab
83367|atorvastatin
1251|azacitidine
1256|azathioprine
18631|azithromycin
1292|baclofen
134547|bendamustine
253337|bevacizumab
83008|bicalutamide
1596|bisacodyl
1622|bleomycin
358258|bortezomib
19831|budesonide
1808|bumetanide
42347|bupropion
1827|buspirone
1894|calcitriol
1897|calcium carbonate
194000|capecitabine
2002|carbamazepine
2019|carbidopa
40048|carboplatin
20352|carvedilol
2180|cefazolin
20481|cefepime
2193|ceftriaxone
140587|celecoxib
2231|cephalexin
20610|cetirizine
318341|cetuximab
2409|chlorthalidone
2418|cholecalciferol
21107|cilostazol
2551|ciprofloxacin
2555|cisplatin
2556|citalopram
2582|clindamycin
2598|clonazepam
32968|clopidogrel
2626|clozapine
2683|colchicine
21949|cyclobenzaprine
3002|cyclophosphamide
3041|cytarabine
1037042|dabigatran etexilate
1488564|dapagliflozin
3109|daunorubicin
993449|denosumab
3264|dexamethasone
3322|diazepam
3355|diclofenac
3407|digoxin
3443|diltiazem
3498|diphenhydramine
3521|dipyridamole
72962|docetaxel
82003|docusate
135447|donepezil
49276|doxazosin
3639|doxorubicin
3640|doxycycline
1551291|dulaglutide
72625|duloxetine
1545653|empagliflozin
67108|enoxaparin
105694|epoetin alfa
321988|escitalopram
283742|esomeprazole
4083|estradiol
4124|ethinyl estradiol
4179|etoposide
141704|everolimus
341248|ezetimibe
4278|famotidine
73689|febuxostat
8703|fenofibrate
4337|fentanyl
24947|ferrous sulfate
68442|filgrastim
25025|finasteride
4441|flecainide
4492|fluorouracil
4493|fluoxetine
50121|fluticasone propionate
4511|folic acid
25255|formoterol
4603|furosemide
25480|gabapentin
4637|galantamine
12574|gemcitabine
4719|gemfibrozil
25789|glimepiride
4821|glipizide
4815|glyburide
5093|haloperidol
5224|heparin
5470|hydralazine
5487|hydrochlorothiazide
5489|hydrocodone
5492|hydrocortisone
3423|hydromorphone
5521|hydroxychloroquine
5553|hydroxyzine
1442981|ibrutinib
5640|ibuprofen
5657|ifosfamide
282388|imatinib
274783|insulin glargine
86009|insulin lispro
7213|ipratropium
51499|irinotecan
6058|isosorbide dinitrate
35827|ketorolac
6218|lactulose
28439|lamotrigine
17128|lansoprazole
43611|latanoprost
27169|leflunomide
342369|lenalidomide
72965|letrozole
6313|leucovorin
42375|leuprolide
114477|levetiracetam
6375|levodopa
82122|levofloxacin
6373|levonorgestrel
10582|levothyroxine
6387|lidocaine
475968|liraglutide
29046|lisinopril
6448|lithium
6468|loperamide
28889|loratadine
6470|lorazepam
52175|losartan
6472|lovastatin
6676|meclizine
6691|medroxyprogesterone
6703|megestrol
41493|meloxicam
6719|memantine
103|mercaptopurine
29561|meropenem
52582|mesalamine
6809|metformin
6813|methadone
6835|methimazole
6851|methotrexate
6902|methylprednisolone
6916|metolazone
6918|metoprolol
6922|metronidazole
15996|mirtazapine
88249|montelukast
7052|morphine
7243|naltrexone
7258|naproxen
7407|nicotine
7454|nitrofurantoin
4917|nitroglycerin
1597876|nivolumab
7512|norepinephrine
7514|norethindrone
7531|nortriptyline
61381|olanzapine
7646|omeprazole
26225|ondansetron
37925|orlistat
32592|oxaliplatin
7804|oxycodone
56946|paclitaxel
70561|palonosetron
40790|pantoprazole
32937|paroxetine
714438|pazopanib
1547545|pembrolizumab
68446|pemetrexed
8183|phenytoin
33738|pioglitazone
8339|piperacillin
221147|polyethylene glycol 3350
8591|potassium chloride
613391|prasugrel
42463|pravastatin
8640|prednisone
187832|pregabalin
8704|prochlorperazine
8727|progesterone
8782|propofol
8787|propranolol
51272|quetiapine
35296|ramipril
9143|ranitidine
35829|ranolazine
2284718|remdesivir
35619|rifaximin
35636|risperidone
121191|rituximab
1114195|rivaroxaban
72302|ropinirole
301542|rosuvastatin
1656328|sacubitril
36117|salmeterol
1991302|semaglutide
36387|sennosides
36437|sertraline
214824|sevelamer
36567|simvastatin
593411|sitagliptin
36676|sodium bicarbonate
495881|sorafenib
9947|sotalol
9997|spironolactone
10831|sulfamethoxazole / trimethoprim
9524|sulfasalazine
37418|sumatriptan
357977|sunitinib
10324|tamoxifen
77492|tamsulosin
37776|temozolomide
37801|terbinafine
10454|thiamine
1116632|ticagrelor
10600|timolol
69120|tiotropium
38404|topiramate
38413|torsemide
10689|tramadol
224905|trastuzumab
10737|trazodone
10759|triamcinolone
62427|ursodiol
11118|valproic acid
69749|valsartan
11124|vancomycin
591622|varenicline
39786|venlafaxine
11202|vincristine
11248|vitamin B12
11289|warfarin
39993|zolpidem
"""

_ICD10CM = """
A41.51|Sepsis due to Escherichia coli [E. coli]
A41.9|Sepsis, unspecified organism
B18.2|Chronic viral hepatitis C
B35.1|Tinea unguium
B96.20|Unspecified Escherichia coli [E. coli] as the cause of diseases classified elsewhere
C01|Malignant neoplasm of base of tongue
C02.9|Malignant neoplasm of tongue, unspecified
C10.9|Malignant neoplasm of oropharynx, unspecified
C15.4|Malignant neoplasm of middle third of esophagus
C15.5|Malignant neoplasm of lower third of esophagus
C15.9|Malignant neoplasm of esophagus, unspecified
C16.0|Malignant neoplasm of cardia
C16.3|Malignant neoplasm of pyloric antrum
C16.9|Malignant neoplasm of stomach, unspecified
C18.0|Malignant neoplasm of cecum
C18.2|Malignant neoplasm of ascending colon
C18.7|Malignant neoplasm of sigmoid colon
C18.9|Malignant neoplasm of colon, unspecified
C19|Malignant neoplasm of rectosigmoid junction
C20|Malignant neoplasm of rectum
C22.0|Liver cell carcinoma
C22.1|Intrahepatic bile duct carcinoma
C22.9|Malignant neoplasm of liver, not specified as primary or secondary
C25.0|Malignant neoplasm of head of pancreas
C25.1|Malignant neoplasm of body of pancreas
C25.2|Malignant neoplasm of tail of pancreas
C25.9|Malignant neoplasm of pancreas, unspecified
C32.9|Malignant neoplasm of larynx, unspecified
C34.11|Malignant neoplasm of upper lobe, right bronchus or lung
C34.12|Malignant neoplasm of upper lobe, left bronchus or lung
C34.2|Malignant neoplasm of middle lobe, bronchus or lung
C34.31|Malignant neoplasm of lower lobe, right bronchus or lung
C34.32|Malignant neoplasm of lower lobe, left bronchus or lung
C34.90|Malignant neoplasm of unspecified part of unspecified bronchus or lung
C43.59|Malignant melanoma of other part of trunk
C43.61|Malignant melanoma of right upper limb, including shoulder
C43.9|Malignant melanoma of skin, unspecified
C45.0|Mesothelioma of pleura
C45.1|Mesothelioma of peritoneum
C49.21|Malignant neoplasm of connective and soft tissue of right lower limb, including hip
C49.9|Malignant neoplasm of connective and soft tissue, unspecified
C50.411|Malignant neoplasm of upper-outer quadrant of right female breast
C50.412|Malignant neoplasm of upper-outer quadrant of left female breast
C50.811|Malignant neoplasm of overlapping sites of right female breast
C50.911|Malignant neoplasm of unspecified site of right female breast
C50.912|Malignant neoplasm of unspecified site of left female breast
C50.919|Malignant neoplasm of unspecified site of unspecified female breast
C53.0|Malignant neoplasm of endocervix
C53.9|Malignant neoplasm of cervix uteri, unspecified
C54.1|Malignant neoplasm of endometrium
C55|Malignant neoplasm of uterus, part unspecified
C56.1|Malignant neoplasm of right ovary
C56.2|Malignant neoplasm of left ovary
C56.9|Malignant neoplasm of unspecified ovary
C61|Malignant neoplasm of prostate
C62.90|Malignant neoplasm of unspecified testis, unspecified whether descended or undescended
C62.91|Malignant neoplasm of right testis, unspecified whether descended or undescended
C64.1|Malignant neoplasm of right kidney, except renal pelvis
C64.2|Malignant neoplasm of left kidney, except renal pelvis
C64.9|Malignant neoplasm of unspecified kidney, except renal pelvis
C67.2|Malignant neoplasm of lateral wall of bladder
C67.4|Malignant neoplasm of posterior wall of bladder
C67.9|Malignant neoplasm of bladder, unspecified
C71.1|Malignant neoplasm of frontal lobe
C71.2|Malignant neoplasm of temporal lobe
C71.9|Malignant neoplasm of brain, unspecified
C73|Malignant neoplasm of thyroid gland
C77.1|Secondary and unspecified malignant neoplasm of intrathoracic lymph nodes
C77.9|Secondary and unspecified malignant neoplasm of lymph node, unspecified
C78.01|Secondary malignant neoplasm of right lung
C78.02|Secondary malignant neoplasm of left lung
C78.2|Secondary malignant neoplasm of pleura
C78.6|Secondary malignant neoplasm of retroperitoneum and peritoneum
C78.7|Secondary malignant neoplasm of liver and intrahepatic bile duct
C79.31|Secondary malignant neoplasm of brain
C79.51|Secondary malignant neoplasm of bone
C79.89|Secondary malignant neoplasm of other specified sites
C80.1|Malignant (primary) neoplasm, unspecified
C81.90|Hodgkin lymphoma, unspecified, unspecified site
C82.90|Follicular lymphoma, unspecified, unspecified site
C83.10|Mantle cell lymphoma, unspecified site
C83.30|Diffuse large B-cell lymphoma, unspecified site
C83.38|Diffuse large B-cell lymphoma, lymph nodes of multiple sites
C85.90|Non-Hodgkin lymphoma, unspecified, unspecified site
C90.00|Multiple myeloma not having achieved remission
C90.02|Multiple myeloma in relapse
C91.00|Acute lymphoblastic leukemia not having achieved remission
C91.10|Chronic lymphocytic leukemia of B-cell type not having achieved remission
C92.00|Acute myeloblastic leukemia, not having achieved remission
C92.10|Chronic myeloid leukemia, BCR/ABL-positive, not having achieved remission
C95.90|Leukemia, unspecified not having achieved remission
D50.0|Iron deficiency anemia secondary to blood loss (chronic)
D50.9|Iron deficiency anemia, unspecified
D51.9|Vitamin B12 deficiency anemia, unspecified
D62|Acute posthemorrhagic anemia
D63.1|Anemia in chronic kidney disease
D63.8|Anemia in other chronic diseases classified elsewhere
D64.81|Anemia due to antineoplastic chemotherapy
D64.9|Anemia, unspecified
D68.51|Activated protein C resistance
D68.59|Other primary thrombophilia
D70.1|Agranulocytosis secondary to cancer chemotherapy
D72.829|Elevated white blood cell count, unspecified
E03.9|Hypothyroidism, unspecified
E05.00|Thyrotoxicosis with diffuse goiter without thyrotoxic crisis or storm
E05.90|Thyrotoxicosis, unspecified without thyrotoxic crisis or storm
E06.3|Autoimmune thyroiditis
E11.22|Type 2 diabetes mellitus with diabetic chronic kidney disease
E11.319|Type 2 diabetes mellitus with unspecified diabetic retinopathy without macular edema
E11.40|Type 2 diabetes mellitus with diabetic neuropathy, unspecified
E11.42|Type 2 diabetes mellitus with diabetic polyneuropathy
E11.51|Type 2 diabetes mellitus with diabetic peripheral angiopathy without gangrene
E11.621|Type 2 diabetes mellitus with foot ulcer
E11.65|Type 2 diabetes mellitus with hyperglycemia
E11.9|Type 2 diabetes mellitus without complications
E43|Unspecified severe protein-calorie malnutrition
E44.0|Moderate protein-calorie malnutrition
E46|Unspecified protein-calorie malnutrition
E55.9|Vitamin D deficiency, unspecified
E66.01|Morbid (severe) obesity due to excess calories
E66.9|Obesity, unspecified
E78.00|Pure hypercholesterolemia, unspecified
E78.1|Pure hyperglyceridemia
E78.2|Mixed hyperlipidemia
E78.5|Hyperlipidemia, unspecified
E79.0|Hyperuricemia without signs of inflammatory arthritis and tophaceous disease
E86.0|Dehydration
E87.1|Hypo-osmolality and hyponatremia
E87.6|Hypokalemia
E89.0|Postprocedural hypothyroidism
F03.90|Unspecified dementia, unspecified severity, without behavioral disturbance, psychotic disturbance, mood disturbance, and anxiety
F05|Delirium due to known physiological condition
F10.10|Alcohol abuse, uncomplicated
F10.20|Alcohol dependence, uncomplicated
F10.21|Alcohol dependence, in remission
F10.239|Alcohol dependence with withdrawal, unspecified
F17.200|Nicotine dependence, unspecified, uncomplicated
F17.210|Nicotine dependence, cigarettes, uncomplicated
F20.9|Schizophrenia, unspecified
F25.9|Schizoaffective disorder, unspecified
F29|Unspecified psychosis not due to a substance or known physiological condition
F31.9|Bipolar disorder, unspecified
F32.9|Major depressive disorder, single episode, unspecified
F32.A|Depression, unspecified
F33.0|Major depressive disorder, recurrent, mild
F33.1|Major depressive disorder, recurrent, moderate
F33.9|Major depressive disorder, recurrent, unspecified
F34.1|Dysthymic disorder
F41.0|Panic disorder [episodic paroxysmal anxiety]
F41.1|Generalized anxiety disorder
F41.9|Anxiety disorder, unspecified
F43.10|Post-traumatic stress disorder, unspecified
G20.A1|Parkinson's disease without dyskinesia, without mention of fluctuations
G30.9|Alzheimer's disease, unspecified
G31.84|Mild cognitive impairment of uncertain or unknown etiology
G40.901|Epilepsy, unspecified, not intractable, with status epilepticus
G40.909|Epilepsy, unspecified, not intractable, without status epilepticus
G43.709|Chronic migraine without aura, not intractable, without status migrainosus
G43.909|Migraine, unspecified, not intractable, without status migrainosus
G45.9|Transient cerebral ischemic attack, unspecified
G47.00|Insomnia, unspecified
G47.30|Sleep apnea, unspecified
G47.33|Obstructive sleep apnea (adult) (pediatric)
G89.29|Other chronic pain
G89.3|Neoplasm related pain (acute) (chronic)
G89.4|Chronic pain syndrome
H04.123|Dry eye syndrome of bilateral lacrimal glands
H25.13|Age-related nuclear cataract, bilateral
H35.30|Unspecified macular degeneration
H40.1190|Primary open-angle glaucoma, unspecified eye, stage unspecified
H40.9|Unspecified glaucoma
H52.4|Presbyopia
I10|Essential (primary) hypertension
I11.0|Hypertensive heart disease with heart failure
I11.9|Hypertensive heart disease without heart failure
I12.9|Hypertensive chronic kidney disease with stage 1 through stage 4 chronic kidney disease, or unspecified chronic kidney disease
I15.9|Secondary hypertension, unspecified
I20.0|Unstable angina
I20.9|Angina pectoris, unspecified
I21.02|ST elevation (STEMI) myocardial infarction involving left anterior descending coronary artery
I21.11|ST elevation (STEMI) myocardial infarction involving right coronary artery
I21.3|ST elevation (STEMI) myocardial infarction of unspecified site
I21.4|Non-ST elevation (NSTEMI) myocardial infarction
I21.9|Acute myocardial infarction, unspecified
I25.10|Atherosclerotic heart disease of native coronary artery without angina pectoris
I25.118|Atherosclerotic heart disease of native coronary artery with other forms of angina pectoris
I25.119|Atherosclerotic heart disease of native coronary artery with unspecified angina pectoris
I25.2|Old myocardial infarction
I42.0|Dilated cardiomyopathy
I42.9|Cardiomyopathy, unspecified
I48.0|Paroxysmal atrial fibrillation
I48.19|Other persistent atrial fibrillation
I48.20|Chronic atrial fibrillation, unspecified
I48.91|Unspecified atrial fibrillation
I48.92|Unspecified atrial flutter
I50.22|Chronic systolic (congestive) heart failure
I50.23|Acute on chronic systolic (congestive) heart failure
I50.32|Chronic diastolic (congestive) heart failure
I50.33|Acute on chronic diastolic (congestive) heart failure
I50.9|Heart failure, unspecified
I63.50|Cerebral infarction due to unspecified occlusion or stenosis of unspecified cerebral artery
I63.9|Cerebral infarction, unspecified
I65.23|Occlusion and stenosis of bilateral carotid arteries
I69.354|Hemiplegia and hemiparesis following cerebral infarction affecting left non-dominant side
I70.0|Atherosclerosis of aorta
I70.211|Atherosclerosis of native arteries of extremities with intermittent claudication, right leg
I70.213|Atherosclerosis of native arteries of extremities with intermittent claudication, bilateral legs
I73.9|Peripheral vascular disease, unspecified
I82.401|Acute embolism and thrombosis of unspecified deep veins of right lower extremity
I82.402|Acute embolism and thrombosis of unspecified deep veins of left lower extremity
I82.409|Acute embolism and thrombosis of unspecified deep veins of unspecified lower extremity
I87.2|Venous insufficiency (chronic) (peripheral)
J06.9|Acute upper respiratory infection, unspecified
J12.82|Pneumonia due to coronavirus disease 2019
J15.9|Unspecified bacterial pneumonia
J18.9|Pneumonia, unspecified organism
J20.9|Acute bronchitis, unspecified
J30.9|Allergic rhinitis, unspecified
J43.9|Emphysema, unspecified
J44.0|Chronic obstructive pulmonary disease with (acute) lower respiratory infection
J44.1|Chronic obstructive pulmonary disease with (acute) exacerbation
J44.9|Chronic obstructive pulmonary disease, unspecified
J45.20|Mild intermittent asthma, uncomplicated
J45.40|Moderate persistent asthma, uncomplicated
J45.901|Unspecified asthma with (acute) exacerbation
J45.909|Unspecified asthma, uncomplicated
J90|Pleural effusion, not elsewhere classified
J96.01|Acute respiratory failure with hypoxia
J96.11|Chronic respiratory failure with hypoxia
K21.00|Gastro-esophageal reflux disease with esophagitis, without bleeding
K21.9|Gastro-esophageal reflux disease without esophagitis
K29.70|Gastritis, unspecified, without bleeding
K44.9|Diaphragmatic hernia without obstruction or gangrene
K50.90|Crohn's disease, unspecified, without complications
K51.90|Ulcerative colitis, unspecified, without complications
K57.30|Diverticulosis of large intestine without perforation or abscess without bleeding
K57.92|Diverticulitis of intestine, part unspecified, without perforation or abscess without bleeding
K58.9|Irritable bowel syndrome, unspecified
K59.00|Constipation, unspecified
K64.9|Unspecified hemorrhoids
K70.30|Alcoholic cirrhosis of liver without ascites
K72.90|Hepatic failure, unspecified without coma
K74.60|Unspecified cirrhosis of liver
K76.0|Fatty (change of) liver, not elsewhere classified
K76.6|Portal hypertension
K80.20|Calculus of gallbladder without cholecystitis without obstruction
L03.115|Cellulitis of right lower limb
L03.116|Cellulitis of left lower limb
L03.90|Cellulitis, unspecified
L20.9|Atopic dermatitis, unspecified
L30.9|Dermatitis, unspecified
L40.9|Psoriasis, unspecified
L57.0|Actinic keratosis
L82.1|Other seborrheic keratosis
L89.152|Pressure ulcer of sacral region, stage 2
L97.909|Non-pressure chronic ulcer of unspecified part of unspecified lower leg with unspecified severity
M05.79|Rheumatoid arthritis with rheumatoid factor of multiple sites without organ or systems involvement
M06.9|Rheumatoid arthritis, unspecified
M10.9|Gout, unspecified
M16.11|Unilateral primary osteoarthritis, right hip
M16.12|Unilateral primary osteoarthritis, left hip
M17.0|Bilateral primary osteoarthritis of knee
M17.11|Unilateral primary osteoarthritis, right knee
M17.12|Unilateral primary osteoarthritis, left knee
M19.90|Unspecified osteoarthritis, unspecified site
M1A.9XX0|Chronic gout, unspecified, without tophus (tophi)
M25.561|Pain in right knee
M25.562|Pain in left knee
M32.9|Systemic lupus erythematosus, unspecified
M35.00|Sjögren syndrome, unspecified
M48.061|Spinal stenosis, lumbar region without neurogenic claudication
M54.16|Radiculopathy, lumbar region
M54.2|Cervicalgia
M54.50|Low back pain, unspecified
M62.81|Muscle weakness (generalized)
M79.661|Pain in right lower leg
M79.7|Fibromyalgia
M80.08XA|Age-related osteoporosis with current pathological fracture, vertebra(e), initial encounter for fracture
M81.0|Age-related osteoporosis without current pathological fracture
N17.9|Acute kidney failure, unspecified
N18.2|Chronic kidney disease, stage 2 (mild)
N18.30|Chronic kidney disease, stage 3 unspecified
N18.4|Chronic kidney disease, stage 4 (severe)
N18.6|End stage renal disease
N18.9|Chronic kidney disease, unspecified
N25.81|Secondary hyperparathyroidism of renal origin
N28.1|Cyst of kidney, acquired
N30.00|Acute cystitis without hematuria
N39.0|Urinary tract infection, site not specified
N40.0|Benign prostatic hyperplasia without lower urinary tract symptoms
N40.1|Benign prostatic hyperplasia with lower urinary tract symptoms
N92.0|Excessive and frequent menstruation with regular cycle
N95.1|Menopausal and female climacteric states
N95.2|Postmenopausal atrophic vaginitis
R00.0|Tachycardia, unspecified
R00.2|Palpitations
R04.2|Hemoptysis
R05.9|Cough, unspecified
R06.00|Dyspnea, unspecified
R06.02|Shortness of breath
R06.09|Other forms of dyspnea
R07.1|Chest pain on breathing
R07.89|Other chest pain
R07.9|Chest pain, unspecified
R09.02|Hypoxemia
R10.9|Unspecified abdominal pain
R11.0|Nausea
R11.2|Nausea with vomiting, unspecified
R13.10|Dysphagia, unspecified
R18.8|Other ascites
R19.7|Diarrhea, unspecified
R25.1|Tremor, unspecified
R26.2|Difficulty in walking, not elsewhere classified
R30.0|Dysuria
R31.9|Hematuria, unspecified
R33.9|Retention of urine, unspecified
R35.1|Nocturia
R41.3|Other amnesia
R42|Dizziness and giddiness
R50.9|Fever, unspecified
R51.9|Headache, unspecified
R53.81|Other malaise
R53.83|Other fatigue
R55|Syncope and collapse
R56.9|Unspecified convulsions
R60.0|Localized edema
R63.4|Abnormal weight loss
R64|Cachexia
R65.20|Severe sepsis without septic shock
R65.21|Severe sepsis with septic shock
R73.03|Prediabetes
R78.81|Bacteremia
R79.89|Other specified abnormal findings of blood chemistry
R91.8|Other nonspecific abnormal finding of lung field
R94.31|Abnormal electrocardiogram [ECG] [EKG]
S22.41XA|Multiple fractures of ribs, right side, initial encounter for closed fracture
S32.9XXA|Fracture of unspecified parts of lumbosacral spine and pelvis, initial encounter for closed fracture
S52.501A|Unspecified fracture of the lower end of right radius, initial encounter for closed fracture
S72.001A|Fracture of unspecified part of neck of right femur, initial encounter for closed fracture
S82.891A|Other fracture of right lower leg, initial encounter for closed fracture
T81.40XA|Infection following a procedure, unspecified, initial encounter
U07.1|COVID-19
W19.XXXA|Unspecified fall, initial encounter
Z00.00|Encounter for general adult medical examination without abnormal findings
Z12.11|Encounter for screening for malignant neoplasm of colon
Z12.31|Encounter for screening mammogram for malignant neoplasm of breast
Z13.220|Encounter for screening for lipoid disorders
Z13.6|Encounter for screening for cardiovascular disorders
Z23|Encounter for immunization
Z30.41|Encounter for surveillance of contraceptive pills
Z30.9|Encounter for contraceptive management, unspecified
Z45.2|Encounter for adjustment and management of vascular access device
Z47.1|Aftercare following joint replacement surgery
Z48.815|Encounter for surgical aftercare following surgery on the digestive system
Z51.11|Encounter for antineoplastic chemotherapy
Z51.5|Encounter for palliative care
Z68.35|Body mass index [BMI] 35.0-35.9, adult
Z68.37|Body mass index [BMI] 37.0-37.9, adult
Z68.41|Body mass index [BMI] 40.0-44.9, adult
Z72.0|Tobacco use
Z74.01|Bed confinement status
Z74.09|Other reduced mobility
Z78.0|Asymptomatic menopausal state
Z79.01|Long term (current) use of anticoagulants
Z79.3|Long term (current) use of hormonal contraceptives
Z79.4|Long term (current) use of insulin
Z79.890|Hormone replacement therapy
Z79.891|Long term (current) use of opiate analgesic
Z79.899|Other long term (current) drug therapy
Z82.49|Family history of ischemic heart disease and other diseases of the circulatory system
Z85.038|Personal history of other malignant neoplasm of large intestine
Z85.118|Personal history of other malignant neoplasm of bronchus and lung
Z85.3|Personal history of malignant neoplasm of breast
Z85.42|Personal history of malignant neoplasm of other parts of uterus
Z85.46|Personal history of malignant neoplasm of prostate
Z85.51|Personal history of malignant neoplasm of bladder
Z85.528|Personal history of other malignant neoplasm of kidney
Z85.72|Personal history of non-Hodgkin lymphomas
Z85.820|Personal history of malignant melanoma of skin
Z86.16|Personal history of COVID-19
Z86.711|Personal history of pulmonary embolism
Z86.718|Personal history of other venous thrombosis and embolism
Z86.73|Personal history of transient ischemic attack (TIA), and cerebral infarction without residual deficits
Z87.891|Personal history of nicotine dependence
Z95.1|Presence of aortocoronary bypass graft
Z95.5|Presence of coronary angioplasty implant and graft
Z96.641|Presence of right artificial hip joint
Z96.651|Presence of right artificial knee joint
Z96.652|Presence of left artificial knee joint
Z98.890|Other specified postprocedural states
Z99.2|Dependence on renal dialysis
Z99.3|Dependence on wheelchair
Z99.81|Dependence on supplemental oxygen
Z99.89|Dependence on other enabling machines and devices
"""


def _rows(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.strip().splitlines()]


def _labs() -> dict[str, Lab]:
    other = {row[0]: row for row in _rows(_OTHER_LABS)}
    labs = {}
    for name, code, _, unit, scale, mean, sd, low, high, decimals in _rows(_LABS):
        second = other.get(name)
        labs[name] = Lab(
            name=name,
            code=f"LOINC/{code}",
            unit=unit,
            scale="log" if scale == "log" else "linear",
            mean=float(mean),
            sd=float(sd),
            low=float(low),
            high=float(high),
            decimals=int(decimals),
            other_code=f"LOINC/{second[1]}" if second else "",
            other_factor=float(second[4]) if second else 1.0,
            other_decimals=int(second[5]) if second else 0,
        )
    return labs


LABS: dict[str, Lab] = _labs()
DRUGS: dict[str, str] = {name: f"RxNorm/{code}" for code, name in _rows(_RXNORM)}
OTHER_CODES: dict[str, str] = {row[0]: row[1] for row in _rows(_OTHER_CODES)}

DESCRIPTIONS: dict[str, str] = {
    BIRTH: "Birth",
    SMOKING_STATUS: "Tobacco smoking status",
    **{row[0]: row[1] for row in _rows(_VISITS) + _rows(_PROCEDURES)},
    **{f"ICD10CM/{code}": description for code, description in _rows(_ICD10CM)},
    **{f"RxNorm/{code}": name for code, name in _rows(_RXNORM)},
    **{f"LOINC/{row[1]}": row[2] for row in _rows(_LABS) + _rows(_OTHER_LABS)},
}
UNITS: dict[str, str] = {f"LOINC/{row[1]}": row[3] for row in _rows(_LABS) + _rows(_OTHER_LABS)}
