"""Which images there are, what goes into each, and how its tree is filled.

The trees follow the official images, so that the same pod runs on both: Kafka's jars are in /opt/kafka/libs,
Cassandra's in /opt/cassandra/lib, Spark is /opt/spark, and Java is where their JAVA_HOME says. Programs are started by
their main class: the start scripts of the official images are in no package that could be had without them.

A recipe's inputs name everything that decides its content; images are made anew when they change, and only then.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from allotment_api import __version__
from allotment_local.errors import InvalidInputError
from allotment_local.real_node.images.layout import RunSettings
from allotment_local.real_node.images.sources import checkout, debian, maven, python

REGISTRY = "allotment.local"
"""First part of every name. No such host exists: nothing can be pulled from it by mistake."""

DEBIAN_SUITE = "bookworm"
DEBIAN_PACKAGES = ("openjdk-17-jre-headless", "python3", "ca-certificates", "netbase", "procps")
KAFKA_VERSION = "4.3.1"
CASSANDRA_VERSION = "5.0.5"
SPARK_VERSION = "4.3.0"

JAVA_HOME = "/opt/java/openjdk"
_USERS = (
    "appuser:x:1000:1000::/home/appuser:/bin/bash",
    "cassandra:x:999:999::/var/lib/cassandra:/bin/bash",
    "spark:x:185:0::/home/spark:/bin/bash",
)
"""The users of the official images: programs that ask for a home folder need a name for their number."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one image is made.

    Attributes:
        name: the image's short name.
        tag: its tag.
        inputs: everything that decides the content.
        fill: fills an empty folder, which becomes the image's own layer; the second folder keeps downloads.
        base: the recipe whose layers lie below, if any.
        owner: user and group of the layer's files; None keeps what `fill` made.
        settings: how containers start; the base's environment is inherited.
        stands_in_for: the official image's name. Nodes know ours by that name too, so that manifests need no change.
    """

    name: str
    tag: str
    inputs: tuple[str, ...]
    fill: Callable[[Path, Path], None]
    base: "Recipe | None" = None
    owner: tuple[int, int] | None = (0, 0)
    settings: RunSettings = field(default_factory=RunSettings)
    stands_in_for: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every full name that nodes know the image by."""
        return (self.reference, self.stands_in_for) if self.stands_in_for else (self.reference,)

    @property
    def reference(self) -> str:
        """The image's full name."""
        return f"{REGISTRY}/{self.name}:{self.tag}"

    @property
    def key(self) -> str:
        """Changes when the content would."""
        own = [self.name, self.tag, *self.inputs, *self.names, repr(self.owner), repr(self.settings)]
        content = json.dumps([own, self.base.key if self.base else ""])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def program(name: str, tag: str, binary: Path, *, path: str) -> Recipe:
    """An image of one static program and nothing else.

    Args:
        name: of the image.
        tag: of the image.
        binary: the program.
        path: where it lies in the image.
    """

    def fill(root: Path, _downloads: Path) -> None:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(binary, target)
        target.chmod(0o755)

    with binary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settings = RunSettings(entrypoint=(path,), user="65534:65534")
    return Recipe(name, tag, (digest, path), fill, settings=settings)


def base() -> Recipe:
    """Debian with a Java runtime and Python: what all others stand on."""

    def fill(root: Path, downloads: Path) -> None:
        debian.bootstrap(root, suite=DEBIAN_SUITE, packages=DEBIAN_PACKAGES, downloads=downloads / "debian")
        java = root / JAVA_HOME.lstrip("/")
        java.parent.mkdir(parents=True)
        found = sorted((root / "usr/lib/jvm").glob("java-17-openjdk-*"))
        java.symlink_to(Path("/", found[0].relative_to(root)))
        with (root / "etc/passwd").open("a", encoding="ascii") as file:
            file.writelines(f"{line}\n" for line in _USERS)

    environment = {"JAVA_HOME": JAVA_HOME, "PATH": f"{JAVA_HOME}/bin:{_PATH}", "LANG": "C.UTF-8"}
    return Recipe(
        "base",
        DEBIAN_SUITE,
        (DEBIAN_SUITE, *DEBIAN_PACKAGES, *_USERS),
        fill,
        owner=None,
        settings=RunSettings(environment=environment),
    )


def kafka() -> Recipe:
    """Kafka's brokers and tools; runs as user 1000."""
    artifacts = (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    )

    def fill(root: Path, downloads: Path) -> None:
        maven.fetch(artifacts, root / "opt/kafka/libs", repository=downloads / "maven")

    settings = RunSettings(user="1000:1000", folder="/opt/kafka")
    official = f"docker.io/apache/kafka:{KAFKA_VERSION}"
    return Recipe("kafka", KAFKA_VERSION, artifacts, fill, base=base(), settings=settings, stands_in_for=official)


def cassandra() -> Recipe:
    """Cassandra's server and tools; runs as user 999."""
    artifacts = (f"org.apache.cassandra:cassandra-all:{CASSANDRA_VERSION}",)

    def fill(root: Path, downloads: Path) -> None:
        maven.fetch(artifacts, root / "opt/cassandra/lib", repository=downloads / "maven")
        (root / "opt/cassandra/conf").mkdir()

    environment = {"CASSANDRA_HOME": "/opt/cassandra", "CASSANDRA_CONF": "/opt/cassandra/conf"}
    settings = RunSettings(user="999:999", folder="/opt/cassandra", environment=environment)
    official = f"docker.io/library/cassandra:{CASSANDRA_VERSION}"
    return Recipe(
        "cassandra", CASSANDRA_VERSION, artifacts, fill, base=base(), settings=settings, stands_in_for=official
    )


def spark() -> Recipe:
    """Spark with Python, from PySpark's package, which carries all of Spark; runs as user 185."""
    requirement = f"pyspark=={SPARK_VERSION}"
    entrypoint = Path(__file__).with_name("spark-entrypoint.sh").read_text(encoding="utf-8")

    def fill(root: Path, downloads: Path) -> None:
        home = root / "opt/spark"
        python.install((requirement,), root / "wheel", cache=downloads / "python", built_here=True)
        home.mkdir(parents=True)
        packages = root / "wheel"
        # The package carries Spark's home inside the Python module; the official layout is the other way round.
        for name in ("bin", "sbin", "jars", "licenses", "examples"):
            (packages / "pyspark" / name).rename(home / name)
        for name in ("python", "conf", "work-dir"):
            (home / name).mkdir()
        for name in ("pyspark", "py4j"):
            (packages / name).rename(home / "python" / name)
        shutil.rmtree(packages)
        (root / "opt/entrypoint.sh").write_text(entrypoint, encoding="utf-8")
        (root / "opt/entrypoint.sh").chmod(0o755)

    environment = {"SPARK_HOME": "/opt/spark", "PYTHONPATH": "/opt/spark/python", "PYSPARK_PYTHON": "/usr/bin/python3"}
    settings = RunSettings(("/opt/entrypoint.sh",), environment, "185:0", "/opt/spark/work-dir")
    official = f"docker.io/apache/spark:{SPARK_VERSION}"
    inputs = (requirement, entrypoint)
    return Recipe("spark", SPARK_VERSION, inputs, fill, base=base(), settings=settings, stands_in_for=official)


def allotment() -> Recipe:
    """The operator and the scheduler, from this checkout: the twin of the Dockerfile's image."""

    def fill_dependencies(root: Path, downloads: Path) -> None:
        checkout.install_dependencies(root, cache=downloads / "python")

    def fill(root: Path, downloads: Path) -> None:
        checkout.install_wheel(root, cache=downloads / "python")

    dependencies = Recipe("allotment-dependencies", "1", (checkout.lock_digest(),), fill_dependencies, base=base())
    environment = {
        "PATH": f"/{checkout.PROGRAMS}:{JAVA_HOME}/bin:{_PATH}",
        "PYTHONPATH": f"/{checkout.LIBRARY}",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    settings = RunSettings(("allotment-operator",), environment, "65532:65532", "/tmp")  # noqa: S108 - the pod's own
    return Recipe("allotment", __version__, (checkout.source_digest(),), fill, base=dependencies, settings=settings)


def inherited(recipe: Recipe) -> RunSettings:
    """A recipe's settings with the environment of everything below it."""
    below: Mapping[str, str] = inherited(recipe.base).environment if recipe.base else {}
    own = recipe.settings
    return RunSettings(own.entrypoint, {**below, **own.environment}, own.user, own.folder)


RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "base": base,
    "kafka": kafka,
    "cassandra": cassandra,
    "spark": spark,
    "allotment": allotment,
}
"""The images that can be asked for, by short name."""


def chosen(names: Sequence[str] | None) -> list[Recipe]:
    """The recipes of some short names; all of them, as far as this installation can make them, if none are given.

    Raises:
        InvalidInputError: there is no image of a name.
    """
    unknown = sorted(set(names or ()) - set(RECIPES))
    if unknown:
        raise InvalidInputError(f"There is no image {', '.join(unknown)}.", hint=f"There are {', '.join(RECIPES)}.")
    default = [name for name in RECIPES if name != "allotment" or checkout.is_there()]
    return [RECIPES[name]() for name in names or default]
