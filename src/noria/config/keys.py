"""The table of keys: every key of noria.yaml and of a contract, its shape, its default, and one sentence about it."""

from __future__ import annotations

from noria.config.document import EACH
from noria.config.scalars import (
    CRON,
    ENCODING,
    FREEZE,
    GATE,
    LIMIT,
    MARK,
    NULLS,
    PARALLEL,
    PLAIN,
    PORT,
    QUOTE,
    STEP_SCALAR,
    TARGET,
    TIME_FORMAT,
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
    MapOf,
    Record,
    Scalar,
    ScalarOr,
    WordOr,
    whole,
)
from noria.kernel.policy import Assign, WhenFull
from noria.kernel.task import DEFAULT_TASK
from noria.kernel.tasks import DEFINITIONS, guarded_metrics

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

SQL = Record(
    "a mapping with url and query",
    (
        ConfigKey("url", TEXT, "The database, as SQLAlchemy writes it; secrets as ${VAR}.", required=True),
        ConfigKey("query", TEXT, "A SELECT.", required=True),
        ConfigKey(
            "cursor", TEXT, "A column of its result that only grows: then only rows beyond the last ones are read.", "none"
        ),
    ),
)
CSV = Record(
    "a mapping",
    (
        ConfigKey("separator", MARK, "What stands between cells.", "a comma; a tab in .tsv"),
        ConfigKey("encoding", ENCODING, "How text is written, as `cp1252` or `utf-16`.", "utf-8"),
        ConfigKey("decimal", Choice((".", ",")), "The decimal point of numbers.", "."),
        ConfigKey(
            "nulls",
            ListOf(VALUE, "a list of words", distinct=True),
            "Words that stand for a missing value, in every column; an empty cell always does.",
            "NA, NaN, null and the like, where no text is",
        ),
        ConfigKey("quote", QUOTE, "What stands around cells that hold a separator.", '"'),
    ),
)
DATA = Record(
    "a source, or a mapping",
    (
        ConfigKey("source", TEXT, "A path, folder or glob, an address like s3://bucket/*.parquet, or log:ENVIRONMENT."),
        ConfigKey("sql", SQL, "Or the result of a query: whole, or with a cursor a new file of what came since."),
        ConfigKey("format", Choice(("auto", "files")), "`auto`: tables, by suffix; `files`: kept as they are, not read.", "auto"),
        ConfigKey("csv", CSV, "How CSV and TSV files are written; `noria init` looks.", "utf-8, commas, decimal points"),
        ConfigKey("options", MapOf(PLAIN, "a mapping of options", columns=True), "For the file system of an address.", "none"),
        ConfigKey(
            "pin",
            Choice(("content", "version")),
            "`version`: objects that never change stay where they are; copies are a cache.",
            "content",
        ),
        ConfigKey("every", DURATION, "How often a remote source or a query is looked at.", "1m"),
        ConfigKey("contract", TEXT, "The file that says what the data promises.", "none"),
        ConfigKey(
            "key", TEXTS, "Columns that name a row over all files: of rows with the same key the newest file's stands.", "none"
        ),
        ConfigKey(
            "settle", DURATION, "A file that was not renamed into place counts when it has not changed for this long.", "2s"
        ),
    ),
    short="source",
    either=("source", "sql"),
)
STEP = Record(
    "a function, or a mapping",
    (
        ConfigKey("call", TARGET, "The function; its arguments are datasets, steps and parameters, by name."),
        ConfigKey("cmd", TEXT, "Or shell commands, run in the project's folder; they stop at the first that fails."),
        ConfigKey("deps", TEXTS, "What a command takes: datasets and steps by name, files and folders by path.", "none"),
        ConfigKey("outs", TEXTS, "The files and folders that a command leaves.", "none"),
        ConfigKey("metrics", TEXTS, "Those of its outs, JSON or YAML, whose numbers are metrics of the run.", "none"),
        ConfigKey("plots", TEXTS, "Those of its outs that are to be looked at and compared.", "none"),
        ConfigKey("params", TEXTS, "The parameters that a command reads: `seed`, `train.lr`, or a whole section.", "none"),
        ConfigKey("foreach", ANY, "A list, a mapping, or the name of a parameter that is one: a step for each of them."),
        ConfigKey("matrix", MapOf(ANY, "a mapping of lists", columns=True), "Lists by name: a step for each combination."),
        ConfigKey("when", TEXT, "A condition on parameters; the step is skipped where it does not hold.", "none"),
        ConfigKey(
            "env", MapOf(VALUE, "a mapping of environment variables", columns=True), "Variables that it gets besides.", "none"
        ),
        ConfigKey("wdir", TEXT, "The folder in which a command runs; deps and outs stay relative to noria.yaml.", "."),
        ConfigKey("timeout", DURATION, "The step is ended when it runs longer.", "10m"),
        ConfigKey("memory", SIZE, "The step is ended when its processes together hold more.", "no limit"),
        ConfigKey("cpus", whole("a number of cores from 1 to 1024", 1, 1024), "The cores it is kept to, and waits for.", "any"),
        ConfigKey("retries", whole("a number from 0 to 20", 0, 20), "How often it is tried again when it fails.", "0"),
        ConfigKey("frozen", FLAG, "It never runs again while it has a result.", "false"),
        ConfigKey("always", FLAG, "It runs every time.", "false"),
    ),
    short="call",
)
HOLDOUT = Record(
    "a mapping with last or fraction",
    (
        ConfigKey("last", DURATION, "The newest rows, by event time."),
        ConfigKey("fraction", CHANCE, "A share of the rows, by a hash of the key, or of the whole row.", "20%"),
    ),
)
SPACE = MapOf(Scalar("a range, choices or a value", lambda item: item.plain(), {}), "a mapping of hyperparameters", columns=True)
ALGORITHM = Record(
    "a function, or a mapping",
    (
        ConfigKey("train", TARGET, "The training function, as `model.train`.", required=True),
        ConfigKey("space", SPACE, "Its hyperparameters, besides those of all algorithms.", "none"),
    ),
    short="train",
)
SEARCH = Record(
    "a mapping",
    (
        ConfigKey("metric", TEXT, "What a trial is judged by, on validation rows.", "brier, log_loss or mae, by the task"),
        ConfigKey("trials", whole("a number from 1 to 10000", 1, 10_000), "How many trials there are.", "30"),
        ConfigKey("space", SPACE, "NAME: [low, high], [low, high, log], choices, or one value.", "none"),
        ConfigKey("algorithms", MapOf(ALGORITHM, "a mapping of algorithms"), "Training functions to choose from.", "model.train"),
        ConfigKey("folds", whole("a number from 1 to 20", 1, 20), "Parts of the training rows that validate in turn.", "3"),
        ConfigKey("timeout", DURATION, "No trial begins when the search has run this long.", "no limit"),
        ConfigKey("parallel", PARALLEL, "Trials at a time.", "auto: the number of cores"),
    ),
)
DECISION = Record(
    "a mapping with threshold",
    (
        ConfigKey(
            "threshold",
            CHANCE,
            "Of two classes, the second is called from this probability on.",
            "as the model's own `predict` decides, else 0.5",
            required=True,
        ),
    ),
)
MODEL = Record(
    "a mapping",
    (
        ConfigKey("rows", TEXT, "The labelled table: a step or a dataset.", "the last step, or the only dataset"),
        ConfigKey("key", TEXT, "The column that identifies a row.", "none: a row is what it holds"),
        ConfigKey("event_time", TEXT, "The column that says when a row happened.", "none"),
        ConfigKey("task", Choice(DEFINITIONS), "What the model predicts.", str(DEFAULT_TASK)),
        ConfigKey(
            "inputs",
            TEXTS,
            "The columns that a request carries.",
            "all but label, key and event_time, of the contract or the table",
        ),
        ConfigKey("label", TEXT, "The column to predict.", required=True),
        ConfigKey(
            "weight", TEXT, "The column that says how much a row counts in training: `train` gets it as `sample_weight`.", "none"
        ),
        ConfigKey(
            "groups",
            TEXT,
            "The column of rows that belong together: they stay on one side of each split; `train` may take it as `groups`.",
            "none",
        ),
        ConfigKey("features", TARGET, "Turns inputs into features, row by row; also runs on each request.", "none"),
        ConfigKey(
            "train",
            TARGET,
            "Takes features, label and parameters; returns anything with predict or predict_proba.",
            "required, unless search has algorithms",
        ),
        ConfigKey("search", SEARCH, "Looks for the best algorithm and hyperparameters; see [search](search.md).", "none"),
        ConfigKey(
            "decision", DECISION, "Which class an answer is called; served, and measured by gates.", "as `predict` decides"
        ),
        ConfigKey("holdout", HOLDOUT, "The rows that training never sees.", "fraction: 20%"),
        ConfigKey("timeout", DURATION, "Training is ended when it runs longer.", "30m"),
        ConfigKey("memory", SIZE, "Training is ended when it holds more.", "no limit"),
    ),
    either=("train", "search"),
)
CHECKS = Record(
    "a mapping",
    (
        ConfigKey("code", TEXT, "The command that runs the project's tests; of several, the first that fails ends them.", "none"),
        ConfigKey("timeout", DURATION, "The tests have failed when they run longer.", "10m"),
    ),
)
P99 = Record(
    "a mapping with by",
    (ConfigKey("by", DURATION, "How much later the candidate's 99th percentile may be.", required=True),),
    short="by",
)
LATENCY = Record(
    "a mapping with over and by",
    (
        ConfigKey("over", DURATION, "An answer later than this is slow.", "100ms"),
        ConfigKey("by", CHANCE, "How much greater a share of slow answers would be too much.", "2%"),
        ConfigKey("p99", P99, "A further guard: how much later the 99th percentile may be, as in `p99: 20ms`.", "none"),
    ),
)
MAE = Record(
    "a mapping with by and bound",
    (
        ConfigKey("by", POSITIVE, "How much greater the mean absolute error may be, in the label's unit.", required=True),
        ConfigKey("bound", POSITIVE, "An error above it counts as it, so that one outlier decides nothing.", required=True),
    ),
)
GUARD = Record(
    "a mapping",
    (
        ConfigKey("errors", CHANCE, "How much greater a share of failed requests would be too much.", "1%"),
        ConfigKey(
            "failing", CHANCE, "No candidate goes on that fails more of its requests, even where its champion fails too.", "50%"
        ),
        ConfigKey("latency", LATENCY, "When an answer is slow, and how many more would be too many.", "over: 100ms, by: 2%"),
        *(ConfigKey(m.name, MAE if m.high is None else CHANCE, m.guard, "none") for m in guarded_metrics().values()),
    ),
)
ROLLOUT_STEP = ScalarOr(
    STEP_SCALAR,
    Record(
        "a mapping with one of shadow, pause, approve",
        (
            ConfigKey("shadow", SOME_SHARE, "The candidate scores this share of requests too; the champion answers all."),
            ConfigKey("pause", DURATION, "The share stays as it is for so long; project clock."),
            ConfigKey("approve", whole("a number of people from 1 to 20", 1, 20), "The share stays until so many agree."),
        ),
    ),
)
REPLAY = ScalarOr(
    whole("a number of requests from 0 to 100000, or {last: N, differ: SHARE}", 0, 100_000),
    Record(
        "a mapping",
        (
            ConfigKey("last", whole("a number of requests from 0 to 100000", 0, 100_000), "So many.", "500"),
            ConfigKey("differ", CHANCE, "Mean difference from the champion's answers that stops the rollout.", "25%"),
        ),
    ),
)
ROLLOUT = Record(
    "a mapping",
    (
        ConfigKey(
            "steps",
            ListOf(ROLLOUT_STEP, "a list of steps"),
            "The candidate's share of the traffic, growing to 100%; also `shadow`, `{pause: 10m}`, `{approve: 1}`.",
            required=True,
        ),
        ConfigKey(
            "replay", REPLAY, "Logged requests, the newest, that the candidate answers before any live one; 0: none.", "500"
        ),
        ConfigKey("guard", GUARD, "How much worse than the champion would be too much."),
        ConfigKey("false_alarm", CHANCE, "The chance of rolling back without cause, over all guards, steps and looks.", "1%"),
        ConfigKey("missed", CHANCE, "The chance of promoting a harm of the guard's size.", "5%"),
        ConfigKey("patience", DURATION, "With no verdict by then, a person is asked; project clock.", "1h"),
        ConfigKey(
            "probation",
            DURATION,
            "After promotion: so long the old release may take over; project clock.",
            "1d where quality is guarded, else none",
        ),
        ConfigKey(
            "assign",
            Choice(tuple(str(choice) for choice in Assign)),
            "By `request`, or by `key`: who asks again stays.",
            "request",
        ),
        ConfigKey("pairs", SOME_SHARE, "Share of requests that both releases score, for quality and probation.", "10%"),
    ),
)
ENVIRONMENT = Record(
    "a mapping",
    (
        ConfigKey("after", TEXT, "The environment in which a release must serve first.", "none"),
        ConfigKey("approvals", whole("a number of people from 0 to 20", 0, 20), "How many people must approve.", "0"),
        ConfigKey("rollout", WordOr("direct", ROLLOUT), "How a release takes over the traffic.", "direct"),
        ConfigKey(
            "freeze", ListOf(FREEZE, "a list of times"), "Times in which no release goes out; rollback always may.", "none"
        ),
    ),
)
LOG = Record(
    "a mapping",
    (
        ConfigKey(
            "sample", SOME_SHARE, "The share of predictions that is recorded; while a rollout is in progress all are.", "100%"
        ),
        ConfigKey("keep", DURATION, "Days (UTC) that ended longer ago are deleted, at least 1d.", "for ever"),
        ConfigKey("redact", TEXTS, "Inputs that are never written to disk; the key is written as a keyed hash.", "none"),
        ConfigKey(
            "when_full",
            Choice(tuple(str(choice) for choice in WhenFull)),
            "On a full disk: `refuse` answers nothing, `count` answers and counts what was not recorded.",
            "refuse",
        ),
    ),
)
WORKERS = Record(
    "a mapping",
    (
        ConfigKey("min", whole("a number of processes from 1 to 64", 1, 64), "There are never fewer.", "1"),
        ConfigKey("max", whole("a number of processes from 1 to 64", 1, 64), "There are never more.", required=True),
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
            "Processes that answer for an environment; between `min` and `max`, as many as the load asks for.",
            "2",
        ),
        ConfigKey("max_body", SIZE, "A larger request is refused.", "1MB"),
        ConfigKey(
            "max_rows", whole("a number of rows from 1 to 1000000", 1, 1_000_000), "A request with more rows is refused.", "1000"
        ),
        ConfigKey("log", WordOr("all", LOG), "What the prediction log holds, and for how long.", "all"),
        ConfigKey(
            "keys_file", TEXT, "API keys, one `name:key` a line; nobody is answered without. Read again on a change.", "none"
        ),
        ConfigKey("hosts", HOSTS, "Names that the Host header may say, besides the address.", "any where keys are asked for"),
        ConfigKey("rate", FREQUENCY, "How often each key may ask; without keys, each address.", "no limit"),
        ConfigKey("access_log", FLAG, "One JSON line for each request, in `.noria/log/ENVIRONMENT/access.log`.", "false"),
    ),
)
CONSOLE = Record(
    "a mapping",
    (
        ConfigKey("host", TEXT, "The address the console listens on.", "127.0.0.1"),
        ConfigKey("port", PORT, "Its port. 0 picks a free one.", "8080"),
        ConfigKey(
            "hosts", HOSTS, "Names that the Host header may say, besides the address: of a proxy, or of this machine.", "none"
        ),
    ),
)
MONITOR = Record(
    "a mapping",
    (
        ConfigKey(
            "every", DURATION, "The length of a window; project clock. By days, quality is judged over the newest week.", "1d"
        ),
        ConfigKey("label_delay", DURATION, "A window is judged when it ended this long ago.", "1d"),
        ConfigKey("min_labelled", whole("a number of rows from 1", 1, 1_000_000_000), "Fewer labels decide nothing.", "200"),
        ConfigKey("false_alarm", CHANCE, "The chance, per window, of calling quality sunk without cause.", "0.1%"),
        ConfigKey("margin", NUMBER, "How much worse than the holdout is still fine, in the metric's unit.", "0"),
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
        ConfigKey("at_most", RATE, "How often a turn may start by itself.", "no limit"),
    ),
)
GIT = Record(
    "a mapping",
    (
        ConfigKey("branch", TEXT, "The branch whose commits start turns.", "main; where there is none, what is checked out"),
        ConfigKey("repository", TEXT, "The address of a remote repository to follow.", "the project's own"),
        ConfigKey("every", DURATION, "How often it is looked at.", "2s"),
    ),
)
PROJECT = Record(
    "a mapping",
    (
        ConfigKey("project", NAME, "The project's name.", required=True),
        ConfigKey("goal", TEXT, "What the model is for, in a sentence.", "none"),
        ConfigKey("data", MapOf(DATA, "a mapping of datasets"), "The datasets, by name."),
        ConfigKey("params", TEXT, "The file of parameters.", "params.yaml, if there is one"),
        ConfigKey("steps", MapOf(STEP, "a mapping of steps"), "What turns data into the labelled table, by name."),
        ConfigKey("model", MODEL, "What is trained, on what.", "none"),
        ConfigKey("checks", CHECKS, "What must hold before anything runs."),
        ConfigKey("gates", ListOf(GATE, "a list of gates"), "What a candidate must reach to be released.", "none"),
        ConfigKey(
            "environments", MapOf(ENVIRONMENT, "a mapping of environments"), "Where releases serve, in order.", "production"
        ),
        ConfigKey("serving", SERVING, "The model server."),
        ConfigKey("console", CONSOLE, "The console."),
        ConfigKey("monitor", MONITOR, "How quality is watched."),
        ConfigKey("retrain", RETRAIN, "What starts a turn by itself."),
        ConfigKey("git", GIT, "Which branch is followed."),
    ),
)

COLUMN = Record(
    "a type, or a mapping",
    (
        ConfigKey(
            "type",
            Choice(("int", "float", "string", "bool", "datetime", "date")),
            "The type of its values; text files are read by it.",
            "as [the files show](data.md#types-of-text-files)",
        ),
        ConfigKey("format", TIME_FORMAT, "How its dates or times are written in a text file, as `%m/%d/%Y`.", "year first"),
        ConfigKey("nulls", NULLS, "How many values may be missing.", "any"),
        ConfigKey(
            "range",
            ListOf(LIMIT, "a list of two numbers", length=2),
            "The smallest and largest value, inclusive; null is no limit.",
        ),
        ConfigKey("values", ListOf(VALUE, "a list of values", distinct=True), "The allowed values."),
        ConfigKey("required", FLAG, "Whether the column must be there.", "true"),
    ),
    short="type",
)
ROWS = Record(
    "a mapping with min and max",
    (
        ConfigKey("min", whole("a number of rows", 0, 1 << 53), "The fewest rows of a file.", "1"),
        ConfigKey("max", whole("a number of rows", 0, 1 << 53), "The most.", "no limit"),
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
        ConfigKey("at_most", SHARE, "The share of rows that may break it.", "0%"),
    ),
)
CONTRACT = Record(
    "a mapping",
    (
        ConfigKey("columns", MapOf(COLUMN, "a mapping of columns", columns=True), "What each column promises."),
        ConfigKey("unique", TEXTS, "The columns that together identify a row.", "none"),
        ConfigKey("rows", ROWS, "How many rows a file has."),
        ConfigKey("freshness", FRESHNESS, "How old the newest row may be."),
        ConfigKey("extra_columns", Choice(("allow", "forbid")), "Whether other columns may be there.", "allow"),
        ConfigKey("rules", ListOf(RULE, "a list of rules"), "What must hold in each row."),
    ),
)
