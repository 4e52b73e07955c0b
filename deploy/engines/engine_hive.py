"""Hive: metastore on Derby and HiveServer2 with Tez in its own process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from state import USER, Home, Options, Preparation, Service, class_path, ports_of

METASTORE_HEAP_MIB = 512
HIVESERVER2_HEAP_MIB = 1024
_OPENS = (
    *(
        "java.lang",
        "java.lang.invoke",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "java.nio",
        "java.text",
        "java.time",
    ),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.regex", "sun.nio.ch"),
)
OPENS = (
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS),
    "--add-opens=java.sql/java.sql=ALL-UNNAMED",
)
LOGGING = """\
status = WARN
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p [%t] %c{2}: %m%n
"""


def hadoop_xml(values: Mapping[str, object]) -> str:
    """A configuration file in Hadoop's form."""
    rows = "".join(
        f"  <property><name>{escape(name)}</name><value>{escape(str(value))}</value></property>\n"
        for name, value in values.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<configuration>\n{rows}</configuration>\n'


def hive_site(home: Home, options: Options) -> dict[str, object]:
    """hive-site.xml of both processes."""
    ports, folder = ports_of(options), home.folder / "hive"
    asked: dict[str, object] = {"hive.server2.authentication": options.hive_auth}
    if options.hive_auth == "CUSTOM":
        asked |= {
            "hive.server2.custom.authentication.class": "egpu.engines.OneUser",
            "egpu.engines.user": USER,
            "egpu.engines.password": home.passwords()[USER],
        }
    return {
        "javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder / 'metastore'}",
        "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver",
        "hive.metastore.schema.verification": "true",
        "hive.metastore.uris": f"thrift://127.0.0.1:{ports['metastore']}",
        "hive.metastore.port": ports["metastore"],
        # Our tables are external, each with its own place; this is where tables of other people would go.
        "hive.metastore.warehouse.dir": (folder / "managed").as_uri(),
        "hive.metastore.warehouse.external.dir": home.warehouse(options).as_uri(),
        "hive.metastore.event.db.notification.api.auth": "false",
        "hive.async.log.enabled": "false",
        # No transactions: files are replaced whole, by one rename.
        "hive.support.concurrency": "false",
        "hive.server2.thrift.bind.host": "127.0.0.1",
        "hive.server2.thrift.port": ports["hiveserver2"],
        "hive.server2.webui.port": 0,
        "hive.server2.enable.doAs": "false",
        "hive.server2.tez.initialize.default.sessions": "false",
        "hive.execution.engine": "tez",
        "hive.execution.mode": "container",
        "hive.llap.io.enabled": "false",
        "tez.local.mode": "true",
        "tez.ignore.lib.uris": "true",
        "tez.runtime.optimize.local.fetch": "true",
        "tez.am.mode.session": "true",
        "tez.staging-dir": folder / "scratch" / "tez",
        "hive.exec.scratchdir": folder / "scratch",
        "hive.exec.local.scratchdir": folder / "scratch-local",
        "hive.user.install.directory": folder / "user",
        "hive.stats.autogather": "false",
        "hive.exec.dynamic.partition.mode": "nonstrict",
        # Hive's own Parquet timestamps: 64-bit and UTC, read by others as they were meant.
        "hive.parquet.write.int64.timestamp": "true",
        "fs.defaultFS": "file:///",
        "mapreduce.framework.name": "local",
        **asked,
    }


def hive_services(home: Home, options: Options, install: Path) -> tuple[Service, ...]:
    """Metastore, then HiveServer2: started before its metastore listens, it would wait a minute for its second try."""
    ports, folder = ports_of(options), home.folder / "hive"
    conf = folder / "conf"
    java = (
        *OPENS,
        "-XX:+UseG1GC",
        f"-Duser.timezone={options.timezone}",
        f"-Dderby.stream.error.file={home.logs}/derby.log",
        f"-Dlog4j2.configurationFile={(conf / 'log4j2.properties').as_uri()}",
        # hive-exec holds the antlr and avro it was made with; older ones lie beside it.
        *("-cp", f"{conf}:{class_path(install / 'lib', first='hive-exec-')}"),
    )
    files = {
        conf / "hive-site.xml": hadoop_xml(hive_site(home, options)),
        conf / "metastore-site.xml": hadoop_xml({"metastore.thrift.bind.host": "127.0.0.1"}),
        conf / "log4j2.properties": LOGGING,
        conf / "hive-log4j2.properties": LOGGING,  # the name under which HiveServer2 looks again, after it has started
    }
    folders = (home.warehouse(options), *(folder / name for name in ("managed", "scratch", "scratch-local", "user")))
    return (
        Service(
            name="metastore",
            engine="hive",
            arguments=(
                f"-Xmx{METASTORE_HEAP_MIB}m",
                *java,
                *("org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(ports["metastore"])),
            ),
            files=files,
            folders=folders,
            preparation=_schema(folder, java, install),
            ports={"metastore": ports["metastore"]},
            ready_port=ports["metastore"],
            memory_mib=METASTORE_HEAP_MIB + 256,
        ),
        Service(
            name="hiveserver2",
            engine="hive",
            arguments=(
                f"-Xmx{HIVESERVER2_HEAP_MIB}m",
                *java,
                "org.apache.hive.service.server.HiveServer2",
            ),
            files=files,
            folders=folders,
            ports={"hiveserver2": ports["hiveserver2"]},
            ready_port=ports["hiveserver2"],
            after=("metastore",),
            memory_mib=HIVESERVER2_HEAP_MIB + 512,
        ),
    )


def _schema(folder: Path, java: tuple[str, ...], install: Path) -> Preparation:
    """The metastore's tables, by schematool: those that it makes up itself lack the ones for locks."""
    database = folder / "metastore"
    made = database.with_name("metastore.part")
    home = str(install / "schema")
    return Preparation(
        arguments=(
            *java,
            "org.apache.hadoop.hive.metastore.tools.schematool.MetastoreSchemaTool",
            *("-dbType", "derby", "-initSchema", "-driver", "org.apache.derby.jdbc.EmbeddedDriver"),
            *("-url", f"jdbc:derby:;databaseName={made};create=true", "-userName", "APP", "-passWord", "mine"),
        ),
        environment={"METASTORE_HOME": home, "HIVE_HOME": home},
        done=database,
        made=made,
    )


def describe_hive(home: Home, options: Options, pids: Mapping[str, int]) -> dict[str, Any]:
    """The parts ``metastore`` and ``hive`` of engines.json, of what runs. ``pids``: service -> process id."""
    ports, described = ports_of(options), {}
    if "metastore" in pids:
        described["metastore"] = {
            "uri": f"thrift://127.0.0.1:{ports['metastore']}",
            "pid": pids["metastore"],
        }
    if "hiveserver2" in pids:
        described["hive"] = {
            "url": _url(home, options, ports["hiveserver2"]),
            "auth": options.hive_auth,
            "pid": pids["hiveserver2"],
        }
    return described


def _url(home: Home, options: Options, port: int) -> str:
    if options.hive_auth == "NOSASL":
        return f"hive://127.0.0.1:{port}/default"
    if options.hive_auth == "NONE":
        return f"hive://{USER}@127.0.0.1:{port}/default?auth=NONE"
    # A client says LDAP for every way of sending a name and a password.
    return f"hive://{USER}:{home.passwords()[USER]}@127.0.0.1:{port}/default?auth=LDAP"
