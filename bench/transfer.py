#!/usr/bin/env python3
"""The network half of images, in turn with skopeo: blobs to disk, copy, inspect, start, from docker-registry on loopback.

usage: bench/transfer.py BUILD_DIR ROUNDS      HOY_DEBIAN_TAR: a root file system's tar (else mmdebstrap makes one)
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from bench import BUILD, ROUNDS, Bench
from conftest import free_port, wait_port


def debian(base):
    """A tar of ~170 MB."""
    path = pathlib.Path(os.environ.get("HOY_DEBIAN_TAR", base / "debian.tar"))
    if not path.exists():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(path)], check=True)
    return path


def serve(base):
    """docker-registry with an empty store; (process, host)."""
    port = free_port()
    (base / "registry.yml").write_text("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: "
                                       f"{base}/registry\nhttp:\n  addr: 127.0.0.1:{port}\n")
    process = subprocess.Popen(["docker-registry", "serve", str(base / "registry.yml")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    wait_port(port)
    return process, f"127.0.0.1:{port}"


def peak_kib(argv):
    """Largest resident size of a command, by wait4 of its parent."""
    code = "import resource,subprocess,sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); " \
           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    return int(subprocess.run([sys.executable, "-c", code, *argv], check=True, capture_output=True, text=True).stdout)


def main():
    """Prints every comparison."""
    b = Bench()
    base = pathlib.Path(tempfile.mkdtemp(prefix="hoy-transfer-"))
    os.environ.update(HOY_ROOT=str(base / "hoy"), HOY_RUN=str(base / "run"), HOME=str(base))
    hoy, transfer = str(BUILD / "src/main/hoy"), [str(BUILD / "src/main/hoy-transfer"), "--root", str(base / "alone")]
    server, host = serve(base)
    try:
        for kind in ("gzip", "zstd"):
            subprocess.run([hoy, "import", str(debian(base)), f"{host}/debian:{kind}"], check=True, capture_output=True)
            subprocess.run([hoy, "push", "--compression-format", kind, f"{host}/debian:{kind}"], check=True, capture_output=True)
            subprocess.run([hoy, "rmi", f"{host}/debian:{kind}"], check=True, capture_output=True)
        clean = ["rm", "-rf", str(base / "alone"), str(base / "skopeo")]
        for kind in ("gzip", "zstd"):
            ref = f"{host}/debian:{kind}"
            b.compare(f"blobs of a debian image ({kind}) to disk, synced by hoy alone", {
                "hoy": [*transfer, "pull", ref],
                "skopeo": ["skopeo", "copy", "--src-tls-verify=false", f"docker://{ref}", f"oci:{base}/skopeo:1"],
            }, ROUNDS, {"hoy": clean, "skopeo": clean})
        ref = f"{host}/debian:gzip"
        b.compare("inspect of a registry's image", {
            "hoy": [hoy, "image", "inspect", "--remote", ref],
            "skopeo": ["skopeo", "inspect", "--tls-verify=false", f"docker://{ref}"],
        }, ROUNDS * 3)
        b.compare("copy inside one registry (mounts)", {
            "hoy": ["sh", "-c", f"{hoy} image copy {ref} {host}/copy-$$:1"],
            "skopeo": ["sh", "-c", f"skopeo copy --src-tls-verify=false --dest-tls-verify=false docker://{ref} "
                                   f"docker://{host}/skopeo-$$:1"],
        }, ROUNDS)
        b.compare("start of hoy-transfer, and an error of its", {"hoy": [*transfer, "logout", "x"], "true": ["true"]}, ROUNDS * 5)
        subprocess.run(clean, check=True)
        print(f"\npeak resident size of a pull's transfer: hoy-transfer {peak_kib([*transfer, 'pull', ref])} KiB, skopeo "
              f"{peak_kib(['skopeo', 'copy', '--src-tls-verify=false', f'docker://{ref}', f'oci:{base}/skopeo:1'])} KiB")
    finally:
        server.terminate()
        server.wait(10)
        subprocess.run([hoy, "system", "reset", "--force"], capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
