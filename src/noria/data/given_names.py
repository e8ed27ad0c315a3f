"""Common given names of several languages, in small letters; names that are as often a place or a word are left out."""

from __future__ import annotations

# fmt: off
GIVEN_NAMES = frozenset(
    [
        "aaron", "abdul", "adam", "adrian", "agnes", "agnieszka", "ahmed", "aisha", "alan", "alberto", "alejandro",
        "alessandro", "alessia", "alex", "alexander", "alexandra", "alexandre", "ali", "alice", "alicia", "alina",
        "amanda", "amelia", "amina", "amy", "ana", "anastasia", "anders", "andrea", "andreas", "andrei", "andrew",
        "andrzej", "angela", "angelika", "anita", "anja", "anke", "anna", "anne", "annette", "annika", "anthony",
        "antoine", "anton", "antonio", "anya", "arjun", "arnaud", "arthur", "astrid", "axel", "barbara", "beata",
        "beatrice", "beatriz", "ben", "benjamin", "bernd", "bernhard", "birgit", "bjorn", "bogdan", "brandon", "brenda",
        "brian", "bruno", "camille", "carl", "carla", "carlos", "carmen", "carol", "caroline", "catherine", "cecilia",
        "celine", "chantal", "charles", "chiara", "chloe", "christian", "christina", "christine", "christoph",
        "christophe", "christopher", "claire", "clara", "claudia", "clemens", "cynthia", "daniel", "daniela",
        "danielle", "david", "deborah", "debra", "dennis", "derek", "diana", "diego", "dieter", "dimitri", "dirk",
        "dominik", "dominique", "donald", "donna", "dorothy", "edward", "eduardo", "ekaterina", "elena", "elisabeth",
        "elizabeth", "elke", "ella", "emilia", "emily", "emma", "enrique", "eric", "erik", "erika", "esther", "ethan",
        "eugene", "eva", "fatima", "federico", "felix", "fernando", "florian", "francesca", "francesco", "francisco",
        "francois", "frank", "franz", "franziska", "frederic", "friedrich", "fritz", "gabriel", "gabriela", "gary",
        "george", "gerhard", "gertrud", "giovanni", "giulia", "giuseppe", "gonzalo", "greta", "gregory", "guillaume",
        "gustav", "hannah", "hans", "harald", "heather", "heike", "heinz", "helen", "helena", "helga", "helmut",
        "henri", "henrik", "henry", "hiroshi", "holger", "horst", "hugo", "ibrahim", "igor", "ines", "ingrid", "irene",
        "isabel", "isabella", "isabelle", "ivan", "jacob", "jacqueline", "jakob", "james", "jan", "jana", "janet",
        "janine", "jason", "javier", "jean", "jeffrey", "jennifer", "jens", "jessica", "joachim", "joan", "joanna",
        "johan", "johann", "johanna", "johannes", "john", "jonas", "jonathan", "jorge", "jose", "joseph", "joshua",
        "juan", "judith", "julia", "julian", "julie", "jurgen", "justin", "karen", "karin", "karl", "karolina",
        "katarzyna", "katharina", "katherine", "kathleen", "katja", "kenneth", "kenji", "kerstin", "kevin", "kimberly",
        "klaus", "krzysztof", "kyle", "lars", "laura", "lauren", "laurent", "lea", "lena", "leon", "leonie", "leszek",
        "liam", "linda", "lisa", "lorenzo", "louis", "louise", "luca", "lucas", "lucia", "luis", "luisa", "lukas",
        "lukasz", "maciej", "magdalena", "malgorzata", "manfred", "manuel", "manuela", "marc", "marcel", "marcin",
        "marco", "marcus", "margaret", "margarita", "maria", "mariana", "marie", "marina", "mario", "marion", "markus",
        "marta", "martha", "martin", "martina", "mary", "mateo", "matteo", "matthew", "matthias", "maximilian", "megan",
        "mehmet", "melanie", "melissa", "mia", "michael", "michal", "michel", "michelle", "miguel", "mikhail",
        "mohamed", "mohammed", "monica", "monika", "muhammad", "mustafa", "nadine", "natalia", "natalie", "natasha",
        "nathan", "nicholas", "nicolas", "nicole", "niklas", "nina", "noah", "norbert", "oleg", "olga", "oliver",
        "olivia", "oscar", "otto", "pablo", "pamela", "paola", "paolo", "patricia", "patrick", "paul", "paula", "pavel",
        "pedro", "peter", "petra", "philip", "philipp", "philippe", "pierre", "piotr", "priya", "rachel", "rahul",
        "rainer", "ralf", "ralph", "raul", "rebecca", "regina", "renate", "ricardo", "richard", "rita", "robert",
        "roberto", "roland", "ronald", "ruth", "ryan", "sabine", "samantha", "samuel", "sandra", "sara", "sarah",
        "sebastian", "sergei", "sergio", "sharon", "silke", "silvia", "simon", "simone", "sofia", "sonja", "sophia",
        "sophie", "stefan", "stefanie", "stephan", "stephanie", "stephen", "steven", "susan", "susanne", "sven",
        "svetlana", "sylvia", "takashi", "tanja", "tatiana", "teresa", "theo", "theresa", "thomas", "thorsten", "tim",
        "timothy", "tobias", "tomasz", "torsten", "tyler", "ulrich", "ulrike", "ursula", "ute", "uwe", "valentina",
        "valerie", "vanessa", "vera", "veronica", "viktor", "vincent", "virginie", "vladimir", "walter", "wanda",
        "werner", "wilhelm", "william", "wolfgang", "xavier", "yasmin", "yuki", "yusuf", "yves", "yvonne", "zoe",
        "zofia",
    ]
)
# fmt: on
