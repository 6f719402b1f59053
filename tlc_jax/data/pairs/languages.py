"""Names of languages in the first line of a table: codes of ISO 639 or English names, with or without a
region."""

from __future__ import annotations

import re

# ISO 639-1, then ISO 639-2 and English names of the same language
_KNOWN = """
aa aar afar; ab abk abkhazian; af afr afrikaans; ak aka akan; am amh amharic; ar ara arabic; an arg
aragonese; as asm assamese; av ava avaric; ae ave avestan; ay aym aymara; az aze azerbaijani; ba bak
bashkir; bm bam bambara; be bel belarusian; bn ben bengali; bi bis bislama; bo bod tib tibetan; bs bos
bosnian; br bre breton; bg bul bulgarian; ca cat catalan; cs ces cze czech; ch cha chamorro; ce che
chechen; cu chu slavonic; cv chv chuvash; kw cor cornish; co cos corsican; cr cre cree; cy cym wel welsh;
da dan danish; de deu ger german; dv div divehi; dz dzo dzongkha; el ell gre greek; en eng english; eo epo
esperanto; et est estonian; eu eus baq basque; ee ewe ewe; fo fao faroese; fa fas per persian farsi; fj
fij fijian; fi fin finnish; fr fra fre french; fy fry frisian; ff ful fulah; gd gla gaelic; ga gle irish;
gl glg galician; gv glv manx; gn grn guarani; gu guj gujarati; ht hat haitian; ha hau hausa; sh hbs
serbo-croatian; he heb hebrew; hz her herero; hi hin hindi; ho hmo; hr hrv croatian; hu hun hungarian; hy
hye arm armenian; ig ibo igbo; io ido ido; ii iii; iu iku inuktitut; ie ile interlingue; ia ina
interlingua; id ind indonesian; ik ipk inupiaq; is isl ice icelandic; it ita italian; jv jav javanese; ja
jpn japanese; kl kal kalaallisut; kn kan kannada; ks kas kashmiri; ka kat geo georgian; kr kau kanuri; kk
kaz kazakh; km khm khmer; ki kik kikuyu; rw kin kinyarwanda; ky kir kirghiz kyrgyz; kv kom komi; kg kon
kongo; ko kor korean; kj kua kuanyama; ku kur kurdish; lo lao lao; la lat latin; lv lav latvian; li lim
limburgan limburgish; ln lin lingala; lt lit lithuanian; lb ltz luxembourgish; lu lub luba-katanga; lg lug
ganda luganda; mh mah marshallese; ml mal malayalam; mr mar marathi; mk mkd mac macedonian; mg mlg
malagasy; mt mlt maltese; mn mon mongolian; mi mri mao maori; ms msa may malay; my mya bur burmese; na nau
nauru; nv nav navajo; nr nbl; nd nde; ng ndo ndonga; ne nep nepali; nl nld dut dutch flemish; nn nno
nynorsk; nb nob bokmal; no nor norwegian; ny nya chichewa; oc oci occitan; oj oji ojibwa; or ori oriya
odia; om orm oromo; os oss ossetian; pa pan panjabi punjabi; pi pli pali; pl pol polish; pt por
portuguese; ps pus pushto pashto; qu que quechua; rm roh romansh; ro ron rum romanian; rn run rundi
kirundi; ru rus russian; sg sag sango; sa san sanskrit; si sin sinhala sinhalese; sk slk slo slovak; sl
slv slovenian slovene; se sme sami; sm smo samoan; sn sna shona; sd snd sindhi; so som somali; st sot
sotho; es spa spanish castilian; sq sqi alb albanian; sc srd sardinian; sr srp serbian; ss ssw swati; su
sun sundanese; sw swa swahili; sv swe swedish; ty tah tahitian; ta tam tamil; tt tat tatar; te tel telugu;
tg tgk tajik; tl tgl tagalog; th tha thai; ti tir tigrinya; to ton tongan; tn tsn tswana; ts tso tsonga;
tk tuk turkmen; tr tur turkish; tw twi twi; ug uig uighur uyghur; uk ukr ukrainian; ur urd urdu; uz uzb
uzbek; ve ven venda; vi vie vietnamese; vo vol volapuk; wa wln walloon; wo wol wolof; xh xho xhosa; yi yid
yiddish; yo yor yoruba; za zha zhuang; zh zho chi cmn chinese mandarin; zu zul zulu
"""
# ISO 639-2 and 639-3, languages without a code of two letters: those in corpora and test sets of translation
_OTHER_CODES = frozenset("""
ace acm acq aeb ajp als ang apc arb arc arn ars ary arz ast awa ayr azb azj bal ban bem bho bjn bpy brx bug
bxr ceb chr chv ckb cop crh csb cuk dik diq doi dsb dyu ext fil fkv frp frr fur fuv gaz gom got grc gsw gug
hak haw hif hil hmn hne hsb hyw iba ilo inh jam jbo kab kac kam kas kaa kbd kbp kea khk kmb kmr knc kok krc
krl kum lad ldn lez lfn lij liv lmo lrc ltg lua luo lus lvs lzh mad mag mai mdf mhr min mni mos mrj mus mwl
myv nah nan nap nds new nia nog non nov npi nqo nso nus nyn ory osp ota pag pam pap pbt pcd pcm pdc pes plt
pms pnb prg prs quc quy rap rom rue rup sah sat scn sco shn sma smj smn sms srn stq swh szl taq tdt tet tig
tlh tpi tum tvl tyv tzm udm umb uzn vec vep vls vot vro war wuu xal xmf ydd yue zea zsm zza
""".split())  # fmt: skip
_CODES = {name: names.split()[0] for names in _KNOWN.replace("\n", " ").split(";") for name in names.split()}
_SIDES = {"source": 0, "src": 0, "target": 1, "tgt": 1, "trg": 1}
_TEXTS = frozenset("sentence sentences text texts segment translation original".split())
_OTHERS = _TEXTS | frozenset(
    "id ids line reference ref hypothesis score input output lang language domain attribution".split()
)
_SHORT = 3  # letters: a code this short may also be a word of a text
_CODE = re.compile(r"([a-z]{2,3})([-_][a-z0-9]{2,8})*")

Language = tuple[str, str]


def language(name: str) -> Language:
    """(code, region) of a language, however it is written: French, fra and fr are equal, so are en_US and
    en-us. The region is empty if none is named."""
    code, _, region = name.strip().casefold().replace("_", "-").partition("-")
    return _CODES.get(code, code), region


def is_language(name: str) -> bool:
    """Whether this is the name of a language, with or without a region: tr, zh_CN, tur_Latn, Turkish."""
    code, _ = language(name)
    return code in _CODES or code in _OTHER_CODES


def columns_of(cells: list[str], source: str, target: str) -> tuple[int, int] | None:
    """The cells of a first line that name the source and the target; None if it does not name both.
    ValueError if one is named twice."""
    languages = language(source), language(target)
    first, second = _column(cells, *languages), _column(cells, *reversed(languages))
    if first is not None and second is not None and first != second:
        return first, second
    sides = [_SIDES.get(cell.strip().casefold()) for cell in cells]
    if sides.count(0) != 1 or sides.count(1) != 1:
        return None
    return sides.index(0), sides.index(1)


def _column(cells: list[str], wanted: Language, other: Language) -> int | None:
    """The cell that names the wanted language exactly, or else the one that differs only in having a region
    or none, or else the one with a name that contains a word for it and none for the other language."""
    named = [language(cell) for cell in cells]
    exact = [i for i, name in enumerate(named) if name == wanted]
    similar = [i for i, (code, region) in enumerate(named) if code == wanted[0] and "" in (region, wanted[1])]
    worded = [i for i, cell in enumerate(cells) if _is_worded(cell, wanted, other)]
    columns = exact or similar or worded
    if len(columns) > 1:
        raise ValueError(f"names {' and '.join(cells[i] for i in columns)}, and only one can be used")
    return columns[0] if columns else None


def _is_worded(cell: str, wanted: Language, other: Language) -> bool:
    if wanted[1] or '"' in cell or not _is_name(cell):  # words may mean another region
        return False
    named = {_CODES.get(word, word) for word in _words(cell) if word not in _TEXTS and word not in _SIDES}
    return named == {wanted[0]} and wanted[0] != other[0]


def is_header(cells: list[str]) -> bool:
    """Whether a first line looks like names of columns: all of its cells do, or one does that could hardly be
    a text."""
    names = [_is_name(cell) for cell in cells]
    return all(names) or any(
        name and any(word in _SIDES or (word in _CODES and len(word) > _SHORT) for word in _words(cell))
        for cell, name in zip(cells, names, strict=True)
    )


def _is_name(cell: str) -> bool:
    """Whether a cell looks like the name of a column: en, en-US, French (France), source, text_en, English
    sentence."""
    code = _CODE.fullmatch(cell.strip().casefold())
    if code is not None and code[1] in _CODES:
        return True
    words, is_one = _words(cell), not re.search(r"\s", cell.strip())
    return bool(words) and all(
        word in _SIDES
        or word in _OTHERS
        or (word in _CODES and (is_one or len(word) > _SHORT))
        or (is_one and word.isdigit())
        for word in words
    )


def _words(cell: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"\(.*?\)", " ", cell.casefold()))
