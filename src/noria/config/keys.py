"""The table of keys: every key of noria.yaml and of a contract, its shape, its default, and one sentence about it."""

from __future__ import annotations

from noria.config.behaviour_keys import BEHAVIOUR
from noria.config.document import EACH
from noria.config.patterns import PATTERN
from noria.config.references import REFERENCE_PATTERN, parse_reference
from noria.config.rollout_keys import ROLLOUT
from noria.config.scalars import (
    CRON,
    FREEZE,
    GATE,
    LENGTH,
    LIMIT,
    NULLS,
    PARALLEL,
    PLAIN,
    PORT,
    TARGET,
    TIME_FORMAT,
    TYPE,
)
from noria.config.shapes import (
    ANY,
    CHANCE,
    DURATION,
    FLAG,
    FREQUENCY,
    HOSTS,
    NAME,
    NUMBER,
    POSITIVE,
    RATE,
    SHARE,
    SIZE,
    SOME_SHARE,
    TEXT,
    TEXTS,
    VALUE,
    Choice,
    ConfigKey,
    ListOf,
    ListOrLists,
    MapOf,
    Record,
    Scalar,
    ScalarOr,
    WordOr,
    WordOrList,
    whole,
)
from noria.config.source_keys import CSV, SQL
from noria.kernel.contract import PersonalDataKind, SchemaChange, Severity
from noria.kernel.policy import PolicyChanges, UndecidedPolicy, WhenFull
from noria.kernel.task import DEFAULT_TASK
from noria.kernel.tasks import DEFINITIONS

# Where `${VAR}` is replaced: addresses, and what may be a secret. In every other text it stays as it is, and in a command it is
# the shell's.
EXPANDED = (
    ("data", EACH),
    ("data", EACH, "source"),
    ("data", EACH, "sql", EACH),
    ("data", EACH, "options", EACH),
    ("params",),
    ("serving", "host"),
    ("serving", "hosts", EACH),
    ("serving", "keys_file"),
    ("console", "host"),
    ("console", "hosts", EACH),
    ("git", EACH),
)

DATA = Record(
    "a source, or a mapping",
    (
        ConfigKey("source", TEXT, "A path, folder or glob, an address like s3://bucket/*.parquet, or log:ENVIRONMENT."),
        ConfigKey(
            "sql", SQL, "Or the result of a query: all of it or, with a cursor, a new file with the rows since the last one."
        ),
        ConfigKey(
            "format", Choice(("auto", "files")), "`auto`: tables, by suffix; `files`: stored as they are, not read.", "auto"
        ),
        ConfigKey("csv", CSV, "The format of CSV and TSV files; `noria init` detects it.", "utf-8, commas, decimal points"),
        ConfigKey(
            "options", MapOf(PLAIN, "a mapping of options", columns=True), "Options for the file system of an address.", "none"
        ),
        ConfigKey(
            "pin",
            Choice(("content", "version")),
            "`version`: objects never change, so the store's copies are only a cache.",
            "content",
        ),
        ConfigKey("every", DURATION, "How often a remote source or a query is checked.", "1m"),
        ConfigKey("contract", TEXT, "The file of the data contract.", "none"),
        ConfigKey(
            "key",
            TEXTS,
            "Columns that identify a row across files: of rows with the same key, the newest file's is used.",
            "none",
        ),
        ConfigKey(
            "settle",
            DURATION,
            "A file that was not renamed into place counts as complete when it has not changed for this long.",
            "2s",
        ),
    ),
    short="source",
    either=("source", "sql"),
)
STEP = Record(
    "a function, or a mapping",
    (
        ConfigKey("call", TARGET, "The function; its arguments are datasets, steps and parameters, by name."),
        ConfigKey("cmd", TEXT, "Or shell commands, run in the project's folder; the first failure stops them."),
        ConfigKey("deps", TEXTS, "The inputs of a command: datasets and steps by name, files and folders by path.", "none"),
        ConfigKey("outs", TEXTS, "The files and folders that a command writes.", "none"),
        ConfigKey("metrics", TEXTS, "Outs, in JSON or YAML, whose numbers become metrics of the run.", "none"),
        ConfigKey("plots", TEXTS, "Outs to look at and compare between runs.", "none"),
        ConfigKey("params", TEXTS, "The parameters that a command reads: `seed`, `train.lr`, or a whole section.", "none"),
        ConfigKey("foreach", ANY, "A list, a mapping, or the name of such a parameter: one step for each entry."),
        ConfigKey("matrix", MapOf(ANY, "a mapping of lists", columns=True), "Lists by name: one step for each combination."),
        ConfigKey("when", TEXT, "A condition on parameters; the step is skipped if it does not hold.", "none"),
        ConfigKey(
            "env",
            MapOf(VALUE, "a mapping of environment variables", columns=True),
            "Additional environment variables of the step.",
            "none",
        ),
        ConfigKey("wdir", TEXT, "The folder in which a command runs; deps and outs stay relative to noria.yaml.", "."),
        ConfigKey("timeout", DURATION, "A step that runs longer is killed.", "10m"),
        ConfigKey("memory", SIZE, "A step whose processes together use more memory is killed.", "no limit"),
        ConfigKey(
            "cpus",
            whole("a number of cores from 1 to 1024", 1, 1024),
            "The number of cores that the step waits for and is limited to.",
            "any",
        ),
        ConfigKey("retries", whole("a number from 0 to 20", 0, 20), "How often a failed step is retried.", "0"),
        ConfigKey("frozen", FLAG, "The step never runs again while it has a result.", "false"),
        ConfigKey("always", FLAG, "The step runs every time.", "false"),
    ),
    short="call",
)
HOLDOUT = Record(
    "a mapping with last or fraction",
    (
        ConfigKey("last", DURATION, "The newest rows, by event time."),
        ConfigKey("fraction", CHANCE, "A share of the rows, by a hash of the key, or of the whole row.", "20%"),
        ConfigKey(
            "budget",
            whole("a number of looks from 1 to 30", 1, 30),
            "How many verdicts the same rows may give; gates ask for more proof with each ([why](statistics.md#the-holdout)).",
            "none",
        ),
    ),
)
SPACE = MapOf(Scalar("a range, choices or a value", lambda item: item.plain(), {}), "a mapping of hyperparameters", columns=True)
ALGORITHM = Record(
    "a function, or a mapping",
    (
        ConfigKey("train", TARGET, "The training function, as `model.train`.", required=True),
        ConfigKey("space", SPACE, "Its hyperparameters, in addition to those of all algorithms.", "none"),
    ),
    short="train",
)
SEARCH = Record(
    "a mapping",
    (
        ConfigKey("metric", TEXT, "The metric that judges a trial, on validation rows.", "brier, log_loss or mae, by the task"),
        ConfigKey("trials", whole("a number from 1 to 10000", 1, 10_000), "How many trials to run.", "30"),
        ConfigKey("space", SPACE, "NAME: [low, high], [low, high, log], choices, or one value.", "none"),
        ConfigKey("algorithms", MapOf(ALGORITHM, "a mapping of algorithms"), "Training functions to choose from.", "model.train"),
        ConfigKey(
            "folds",
            whole("a number from 1 to 20", 1, 20),
            "The number of parts of the training rows that take turns as validation rows.",
            "3",
        ),
        ConfigKey("timeout", DURATION, "No trial starts after the search has run this long.", "no limit"),
        ConfigKey("parallel", PARALLEL, "How many trials run at the same time.", "auto: the number of cores"),
    ),
)
COST = Record(
    "a mapping with false_positive and false_negative",
    (
        ConfigKey("false_positive", POSITIVE, "What it costs to call a row of the first class the second.", required=True),
        ConfigKey("false_negative", POSITIVE, "What it costs to call a row of the second class the first.", required=True),
    ),
)
DECISION = Record(
    "a mapping with threshold or cost",
    (
        ConfigKey(
            "threshold",
            CHANCE,
            "For two classes: the probability from which the second class is predicted.",
            "as the model's own `predict` decides, else 0.5",
        ),
        ConfigKey(
            "cost",
            COST,
            "For two classes: what a wrong call of each kind costs. Training chooses the cheapest threshold on validation rows.",
            "none",
        ),
    ),
)
MODEL = Record(
    "a mapping",
    (
        ConfigKey("rows", TEXT, "The labelled table: a step or a dataset.", "the last step, or the only dataset"),
        ConfigKey("key", TEXT, "The column that identifies a row.", "none: a row is what it holds"),
        ConfigKey("event_time", TEXT, "The column with the time of a row.", "none"),
        ConfigKey("task", Choice(DEFINITIONS), "What the model predicts.", str(DEFAULT_TASK)),
        ConfigKey(
            "inputs",
            TEXTS,
            "The columns that a request must have.",
            "all but label, key and event_time, of the contract or the table",
        ),
        ConfigKey("label", TEXT, "The column to predict.", required=True),
        ConfigKey("weight", TEXT, "The column with the weight of a row in training: `train` gets it as `sample_weight`.", "none"),
        ConfigKey(
            "groups",
            TEXT,
            "The column that groups rows which depend on each other, such as those of a patient: they stay on one side of each "
            "split, and the bounds in gates are made for groups; `train` may take it as `groups`.",
            "none",
        ),
        ConfigKey(
            "query",
            TEXT,
            "The column that says which rows are ranked against each other, for `ndcg@10`, `map`, `mrr` and `recall@10`; it is "
            "`groups`, too, unless that is set.",
            "none",
        ),
        ConfigKey("quantile", CHANCE, "The quantile that the model predicts, for `pinball`.", "none"),
        ConfigKey(
            "season",
            whole("a number from 1 to 100000", 1, 100_000),
            "For `mase`: the naive forecast is the label so many times earlier in the series; 1: the one before.",
            "none",
        ),
        ConfigKey("series", TEXT, "For `mase`: the column that tells several series apart; without it all rows are one.", "none"),
        ConfigKey(
            "features",
            TARGET,
            "Turns inputs into features, row by row; also runs on each request. It takes parameters by name, of the section "
            "`features` of the params file or of its top level.",
            "none",
        ),
        ConfigKey(
            "also",
            TEXTS,
            "Further datasets or steps that the model needs to predict: `train` and `features` take their tables by name, and "
            "the release seals them.",
            "none",
        ),
        ConfigKey(
            "train",
            TARGET,
            "Takes features, label and parameters; returns anything with predict or predict_proba.",
            "required, unless search has algorithms",
        ),
        ConfigKey("search", SEARCH, "Searches for the best algorithm and hyperparameters; see [search](search.md).", "none"),
        ConfigKey(
            "decision",
            DECISION,
            "The rule that turns probabilities into a class, for serving and for gates.",
            "as the model's `predict` decides",
        ),
        ConfigKey("holdout", HOLDOUT, "The rows that training never sees.", "fraction: 20%"),
        ConfigKey("timeout", DURATION, "Training that runs longer is killed.", "30m"),
        ConfigKey("memory", SIZE, "Training that uses more memory is killed.", "no limit"),
    ),
    either=("train", "search"),
)
CHECKS = Record(
    "a mapping",
    (
        ConfigKey("code", TEXT, "The command that runs the project's tests; of several, the first failure stops them.", "none"),
        ConfigKey("timeout", DURATION, "Tests that run longer fail.", "10m"),
        ConfigKey(
            "behaviours",
            MapOf(BEHAVIOUR, "a mapping of behaviours"),
            "How a candidate must behave, by name; see [behaviours](evaluation.md#behaviours).",
            "none",
        ),
    ),
)
ENVIRONMENT = Record(
    "a mapping",
    (
        ConfigKey("after", TEXT, "The environment in which a release must serve first.", "none"),
        ConfigKey("approvals", whole("a number of people from 0 to 20", 0, 20), "How many people must approve.", "0"),
        ConfigKey("rollout", WordOr("direct", ROLLOUT), "How a release takes over the traffic.", "direct"),
        ConfigKey(
            "freeze",
            ListOf(FREEZE, "a list of times"),
            "Times in which no release goes out; a rollback is always allowed.",
            "none",
        ),
    ),
)
LOG = Record(
    "a mapping",
    (
        ConfigKey("sample", SOME_SHARE, "The share of predictions that is recorded; during a rollout, all are.", "100%"),
        ConfigKey("keep", DURATION, "How long to keep a day (UTC) of the log, at least 1d.", "for ever"),
        ConfigKey("redact", TEXTS, "Inputs that are never written to disk; the key is written as a keyed hash.", "none"),
        ConfigKey(
            "when_full",
            Choice(tuple(str(choice) for choice in WhenFull)),
            "On a full disk, `refuse` answers no request; `count` answers, and counts what was not recorded.",
            "refuse",
        ),
    ),
)
WORKERS = Record(
    "a mapping",
    (
        ConfigKey("min", whole("a number of processes from 1 to 64", 1, 64), "The minimum.", "1"),
        ConfigKey("max", whole("a number of processes from 1 to 64", 1, 64), "The maximum.", required=True),
    ),
)
SERVING = Record(
    "a mapping",
    (
        ConfigKey("host", TEXT, "The address the model server listens on.", "127.0.0.1"),
        ConfigKey("port", PORT, "Its port; each further environment takes the next one. 0 picks a free one.", "8000"),
        ConfigKey(
            "workers",
            ScalarOr(whole("a number of processes from 1 to 64, or {min: N, max: N}", 1, 64), WORKERS),
            "How many worker processes an environment has; between `min` and `max`, as the load requires.",
            "2",
        ),
        ConfigKey("max_body", SIZE, "A larger request is refused.", "1MB"),
        ConfigKey(
            "max_rows", whole("a number of rows from 1 to 1000000", 1, 1_000_000), "A request with more rows is refused.", "1000"
        ),
        ConfigKey("log", WordOr("all", LOG), "What the prediction log holds, and for how long.", "all"),
        ConfigKey(
            "keys_file",
            TEXT,
            "A file of API keys, one `name:key` on each line, read again when it changes. Requests without a key are refused.",
            "none",
        ),
        ConfigKey("hosts", HOSTS, "Host names to accept in the Host header, besides the address.", "any if keys are required"),
        ConfigKey("rate", FREQUENCY, "How often each API key (without keys: each address) may ask.", "no limit"),
        ConfigKey("access_log", FLAG, "One JSON line for each request, in `.noria/log/ENVIRONMENT/access.log`.", "false"),
    ),
)
CONSOLE = Record(
    "a mapping",
    (
        ConfigKey("host", TEXT, "The address the console listens on.", "127.0.0.1"),
        ConfigKey("port", PORT, "Its port. 0 picks a free one.", "8080"),
        ConfigKey(
            "hosts",
            HOSTS,
            "Host names to accept in the Host header, besides the address: of a proxy, or of this machine.",
            "none",
        ),
    ),
)
MONITOR = Record(
    "a mapping",
    (
        ConfigKey(
            "every", DURATION, "The length of a window; project clock. By days, quality is judged over the newest week.", "1d"
        ),
        ConfigKey("label_delay", DURATION, "How long after its end a window is judged.", "1d"),
        ConfigKey(
            "min_labelled",
            whole("a number of rows from 1 to 1000000000", 1, 1_000_000_000),
            "The fewest labels that can decide.",
            "200",
        ),
        ConfigKey("false_alarm", CHANCE, "The probability, per window, of a false alarm on quality.", "0.1%"),
        ConfigKey("margin", NUMBER, "How much worse than the holdout is acceptable, in the metric's unit.", "0"),
        ConfigKey("drift", NUMBER, "The population stability index above which a column has drifted.", "0.25"),
    ),
)
RETRAIN = Record(
    "a mapping",
    (
        ConfigKey(
            "on",
            ListOf(Choice(("code", "data", "quality", "drift")), "a list", distinct=True),
            "What starts a turn.",
            "code, data, quality",
        ),
        ConfigKey("schedule", CRON, "A cron line, in UTC on the project clock.", "none"),
        ConfigKey("at_most", RATE, "How often turns may start by themselves.", "no limit"),
    ),
)
GIT = Record(
    "a mapping",
    (
        ConfigKey(
            "branch", TEXT, "The branch whose commits start turns.", "main; if there is none, the branch that is checked out"
        ),
        ConfigKey("repository", TEXT, "The address of a remote repository to follow.", "the project's own"),
        ConfigKey("every", DURATION, "How often the remote repository is checked.", "2s"),
    ),
)
METRIC = Record(
    "a function, or a mapping with call and better",
    (
        ConfigKey(
            "call",
            TARGET,
            "Takes labels and predictions; returns the metric, or a value for each row whose mean is the metric.",
            required=True,
        ),
        ConfigKey("better", Choice(("lower", "higher")), "Which direction is better.", "lower"),
    ),
    short="call",
)
PROJECT = Record(
    "a mapping",
    (
        ConfigKey("project", NAME, "The project's name.", required=True),
        ConfigKey("goal", TEXT, "What the model is for, in one sentence.", "none"),
        ConfigKey("data", MapOf(DATA, "a mapping of datasets"), "The datasets, by name."),
        ConfigKey("params", TEXT, "The file of parameters.", "params.yaml, if there is one"),
        ConfigKey("steps", MapOf(STEP, "a mapping of steps"), "What turns data into the labelled table, by name."),
        ConfigKey("model", MODEL, "The model: what is trained, on which rows.", "none"),
        ConfigKey("checks", CHECKS, "The checks before anything runs."),
        ConfigKey("gates", ListOf(GATE, "a list of gates"), "What a candidate must reach to be released.", "none"),
        ConfigKey("metrics", MapOf(METRIC, "a mapping of metrics"), "Metrics of the project's own, by name, for gates.", "none"),
        ConfigKey(
            "not_enough_data",
            Choice(tuple(str(choice) for choice in UndecidedPolicy)),
            "If gates cannot decide: `refuse` the candidate, or `hold` it until a person accepts it with a reason.",
            "refuse",
        ),
        ConfigKey(
            "policy_changes",
            Choice(tuple(str(choice) for choice in PolicyChanges)),
            "What a commit needs that changes gates, contracts, environments or who decides; the champion's setting counts.",
            "approve where an environment asks for approvals, else allow",
        ),
        ConfigKey(
            "environments", MapOf(ENVIRONMENT, "a mapping of environments"), "Where releases serve, in order.", "production"
        ),
        ConfigKey("serving", SERVING, "The model server."),
        ConfigKey("console", CONSOLE, "The console."),
        ConfigKey("monitor", MONITOR, "How quality is monitored."),
        ConfigKey("retrain", RETRAIN, "What starts a turn by itself."),
        ConfigKey("git", GIT, "Which branch is followed."),
    ),
)

SEVERITY = Choice(tuple(str(choice) for choice in Severity))
DISTRIBUTION = Record(
    "a mapping with shift",
    (ConfigKey("shift", CHANCE, "The largest distance of the two distributions.", required=True),),
)
COLUMN = Record(
    "a type, or a mapping",
    (
        ConfigKey(
            "type",
            TYPE,
            "The type of its values; text files are parsed by it.",
            "as [the files show](data.md#types-of-text-files)",
        ),
        ConfigKey("format", TIME_FORMAT, "The format of its dates or times in a text file, such as `%m/%d/%Y`.", "year first"),
        ConfigKey("nulls", NULLS, "How many values may be missing.", "any"),
        ConfigKey(
            "range",
            ListOf(LIMIT, "a list of two numbers", length=2),
            "The smallest and largest value, inclusive; null is no limit.",
        ),
        ConfigKey("values", ListOf(VALUE, "a list of values", distinct=True), "The allowed values."),
        ConfigKey("pattern", PATTERN, "A regular expression (Rust's) that each whole value must match; for text.", "none"),
        ConfigKey(
            "length",
            ListOf(LENGTH, "a list of two whole numbers", length=2),
            "The fewest and the most characters of a text, or items of a list; null is no limit.",
        ),
        ConfigKey(
            "distribution", DISTRIBUTION, "How far it may move from [the last accepted rows](data.md#distributions).", "any"
        ),
        ConfigKey("required", FLAG, "Whether the column must be present.", "true"),
        ConfigKey("severity", SEVERITY, "What happens to a file that breaks a promise of this column.", "as the contract's"),
    ),
    short="type",
)
COUNT = whole("a number of rows from 0 to 9007199254740992", 0, 1 << 53)
ROWS = Record(
    "a mapping with min and max",
    (
        ConfigKey("min", COUNT, "The fewest rows of a file.", "1"),
        ConfigKey("max", COUNT, "The most rows of a file.", "no limit"),
    ),
)
FRESHNESS = Record(
    "a mapping with column and within",
    (
        ConfigKey("column", TEXT, "The column of times.", required=True),
        ConfigKey("within", DURATION, "How old the newest value may be; project clock.", required=True),
    ),
)
RULE = Record(
    "a mapping with name and expr",
    (
        ConfigKey("name", TEXT, "What the rule says, in words.", required=True),
        ConfigKey("expr", TEXT, "A SQL expression over the columns that must hold; null counts as holding.", required=True),
        ConfigKey("at_most", SHARE, "The share of rows that may violate it.", "0%"),
        ConfigKey("severity", SEVERITY, "What happens to a file in which more rows violate it.", "as the contract's"),
    ),
)
PERSONAL_KINDS = tuple(str(kind) for kind in PersonalDataKind)
PERSONAL_DATA = Record(
    "a mapping",
    (
        ConfigKey(
            "forbid",
            WordOrList("all", ListOf(Choice(PERSONAL_KINDS), "a list of kinds of personal data", distinct=True)),
            "A file in which [personal data](data.md#personal-data) of these kinds are found is quarantined.",
            "none",
        ),
        ConfigKey(
            "allow",
            Record(
                "a mapping of kinds to columns",
                tuple(ConfigKey(str(kind), TEXTS, f"Columns that may hold {kind.words}.", "none") for kind in PersonalDataKind),
            ),
            "The columns in which a forbidden kind may stand.",
        ),
        ConfigKey(
            "hash",
            TEXTS,
            "Columns whose values are [replaced by keyed hashes](data.md#hashed-and-dropped-columns) before a file is stored.",
            "none",
        ),
        ConfigKey("drop", TEXTS, "Columns that are left out before a file is stored.", "none"),
    ),
)
DROP_ROWS = Record(
    "a mapping with at_most",
    (ConfigKey("at_most", SHARE, "The largest share of a file's rows that may be dropped.", required=True),),
)
REFERENCE = Scalar("DATASET.COLUMN", lambda item: parse_reference(item.value), {"type": "string", "pattern": REFERENCE_PATTERN})
SCHEMA_CHANGE = Choice(tuple(str(choice) for choice in SchemaChange))
SCHEMA = Record(
    "a mapping with added, dropped, reordered, retyped",
    (
        ConfigKey("added", SCHEMA_CHANGE, "A column that no accepted file had and `columns` does not list.", "refuse"),
        ConfigKey("dropped", SCHEMA_CHANGE, "A missing column that accepted files have and `columns` does not list.", "as added"),
        ConfigKey("reordered", SCHEMA_CHANGE, "The columns of accepted files in another order.", "allow"),
        ConfigKey("retyped", SCHEMA_CHANGE, "A column of another type than in accepted files, if `columns` says none.", "refuse"),
    ),
)
ANOMALIES = Record(
    "a mapping",
    (
        ConfigKey("false_alarm", CHANCE, "The probability, per file, of an alarm over nothing.", "1%"),
        ConfigKey("severity", SEVERITY, "What happens to an unusual file.", "warn"),
    ),
)
CONTRACT = Record(
    "a mapping",
    (
        ConfigKey("columns", MapOf(COLUMN, "a mapping of columns", columns=True), "The rules of each column."),
        ConfigKey(
            "unique", ListOrLists(TEXTS), "The columns that together identify a row; of several keys, one list for each.", "none"
        ),
        ConfigKey(
            "references",
            MapOf(REFERENCE, "a mapping of columns to DATASET.COLUMN", columns=True),
            "Columns whose values must stand in a column of [another dataset](data.md#references)' accepted rows.",
            "none",
        ),
        ConfigKey("order", TEXT, "A column of times or numbers that never falls from one row to the next.", "none"),
        ConfigKey("rows", ROWS, "How many rows a file may have."),
        ConfigKey("freshness", FRESHNESS, "How old the newest row may be."),
        ConfigKey("schema", SCHEMA, "How a file's columns may differ from those of the files accepted before."),
        ConfigKey("extra_columns", Choice(("allow", "forbid")), "Whether other columns are allowed.", "allow"),
        ConfigKey("rules", ListOf(RULE, "a list of rules"), "What must hold in each row."),
        ConfigKey("drop_rows", DROP_ROWS, "Accept a file without its failing rows, when few enough fail.", "none: refused whole"),
        ConfigKey(
            "severity",
            SEVERITY,
            "What happens to a file that breaks a promise: `quarantine` refuses it, `warn` accepts it and says so.",
            "quarantine",
        ),
        ConfigKey("personal_data", PERSONAL_DATA, "What becomes of personal data."),
        ConfigKey("anomalies", ANOMALIES, "What becomes of a file that is [unusual](data.md#unusual-files) beside earlier ones."),
    ),
)
