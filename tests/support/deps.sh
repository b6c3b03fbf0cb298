#!/bin/sh
# deps.sh [--explain] PACKAGE...: installs those Debian packages that are missing, or says what to do;
# with --explain it installs nothing.
explain=
if [ "$1" = --explain ]; then
    explain=1
    shift
fi
missing=
for p; do
    dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && [ -z "$explain" ] && exit 0
# Without Debian: what counts is whether the build finds its libraries.
if ! command -v apt-get > /dev/null; then
    command -v mpicc > /dev/null && pkg-config --exists libconfig jansson libpcre2-8 libutf8proc && exit 0
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null && sudo -n true 2> /dev/null && sudo=sudo
fi
if [ -z "$explain" ] && command -v apt-get > /dev/null && { [ "$(id -u)" -eq 0 ] || [ -n "$sudo" ]; }; then
    echo "installing:$missing"
    # shellcheck disable=SC2086
    $sudo apt-get update -q > /dev/null &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=400 install -y -q \
            --no-install-recommends $missing > /dev/null && exit 0
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
cat >&2 << END
These packages are missing${explain:+ (or pkg-config does not know their libraries)}:
   ${missing:- none of those below}
On Debian or Ubuntu \`make deps\` installs them as root or with sudo; else ask an administrator for:
    apt-get install --no-install-recommends$missing
At an HPC centre load modules for Open MPI (or another MPI with mpicc), OpenBLAS, parallel HDF5,
libconfig, jansson, PCRE2, SentencePiece, utf8proc and xxHash, or with Spack:
    spack install openmpi openblas threads=openmp hdf5+mpi libconfig jansson pcre2 sentencepiece utf8proc xxhash
    spack load openmpi openblas hdf5 libconfig jansson pcre2 sentencepiece utf8proc xxhash
then build with the names that pkg-config knows there:
    make HDF5_PC=hdf5 BLAS_PC=openblas
END
exit 1
