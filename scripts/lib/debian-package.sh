# shellcheck shell=bash
# Finds a program that Debian has in a package, and installs it below .tools/ where the machine has none that will do.
# To be sourced by the script that names the program, after it has set:
#
#   program      the name of the package and of the program in it
#   variable     the environment variable with which a person names one by hand
#   OLDEST       the oldest version that will do
#   RECOMMENDED  the oldest that is used without a word about it
#   root         this checkout

# Looks, in this order, at the variable, at .tools/ of this checkout and at PATH. When none of them will do, it
# fetches Debian's package with the machine's own apt (its mirror, proxy and keys) and unpacks the program into
# .tools/PROGRAM/. Nothing outside .tools is written, and once it is there no network is needed.
set -euo pipefail

: "${program:?}" "${variable:?}" "${OLDEST:?}" "${RECOMMENDED:?}" "${root:?}"

readonly tools=$root/.tools
readonly installed=$tools/$program/$program
work=""  # where a download is unpacked
tried=() # what was looked at and why it would not do

say() { printf '%s: %s\n' "$program" "$*" >&2; }

# version_of PATH: prints `2.15.1`; fails where the file does not run.
version_of() {
  local line
  line=$("$1" --version 2>/dev/null </dev/null) || return 1
  [[ $line =~ ^$program[^0-9]*([0-9]+\.[0-9]+\.[0-9]+) ]] && printf '%s\n' "${BASH_REMATCH[1]}"
}

# at_least VERSION OLDEST
at_least() {
  local -a have want
  local part
  IFS=. read -r -a have <<<"$1"
  IFS=. read -r -a want <<<"$2"
  for part in 0 1 2; do
    if ((have[part] > want[part])); then return 0; fi
    if ((have[part] < want[part])); then return 1; fi
  done
}

# usable PATH WHERE: succeeds when that server runs and is new enough; otherwise notes why not.
usable() {
  local path=$1 where=$2 version
  if ! version=$(version_of "$path"); then
    tried+=("$where: \`$path\` does not run as a $program on this machine")
    return 1
  fi
  if ! at_least "$version" "$OLDEST"; then
    tried+=("$where: \`$path\` is $version, older than $OLDEST")
    return 1
  fi
  at_least "$version" "$RECOMMENDED" || say "\`$path\` is $version; $RECOMMENDED or newer is recommended"
}

# unpack DIR: downloads the package with the apt configuration in use, and moves its program into place in one
# rename. apt checks the signature of the archive and the hash of the package.
unpack() {
  local dir=$1 path
  (cd "$dir" && apt-get -qq -o APT::Sandbox::User= download "$program" && dpkg-deb -x "$program"_*.deb root) \
    >>"$dir/log" 2>&1 || return 1
  for path in "$dir"/root/usr/{sbin,bin}/"$program"; do
    [[ -x $path ]] || continue
    usable "$path" "package" || return 1
    mkdir -p "$(dirname "$installed")"
    mv -f "$path" "$installed"
    return
  done
  return 1
}

# from_own_release OLDEST: the package of the machine's own release, where that is new enough.
from_own_release() {
  local oldest=$1 candidate
  candidate=$(apt-cache policy "$program" 2>/dev/null | sed -n 's/^ *Candidate: //p')
  if [[ ! $candidate =~ ^([0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+) ]]; then
    tried+=("apt: this release offers no $program, or the package lists are empty")
    return 1
  fi
  if ! at_least "${BASH_REMATCH[2]}" "$oldest"; then
    tried+=("apt: this release offers $candidate, older than $oldest")
    return 1
  fi
  say "fetching $candidate with apt"
  mkdir -p "$work/own"
  unpack "$work/own" && return
  tried+=("apt: $candidate: $(complaint "$work/own/log")")
  return 1
}

# mirrors: the archives from which apt takes this machine's release, one a line. apt reads its own sources, in
# whatever format; archives of third parties carry other suites.
mirrors() {
  local codename suite uri
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_CODENAME:-}")
  apt-get --print-uris update 2>/dev/null | sed -n "s|^'\(.*[^/]\)/*/dists/\([^/]*\)/InRelease'.*|\2 \1|p" \
    | while read -r suite uri; do
      case $suite in "${codename:-none}" | stable | testing | unstable | sid) printf '%s\n' "$uri" ;; esac
    done | sort -u
}

# private_apt DIR MIRROR: an apt configuration whose state is all in DIR and whose only source is MIRROR's sid.
# How to reach an archive (proxy, certificates, retries) is taken over from the machine; its hooks are not.
private_apt() {
  local dir=$1 mirror=$2 keyring options=""
  mkdir -p "$dir/lists/partial" "$dir/archives/partial"
  : >"$dir/status"
  for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [[ -r $keyring ]]; then options="[signed-by=$keyring] "; fi
  done
  printf 'deb %s%s sid main\n' "$options" "$mirror" >"$dir/sources.list"
  {
    apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets' || true
    cat <<CONF
Acquire::Languages "none";
Acquire::PDiffs "false";
APT::Sandbox::User "";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
CONF
  } >"$dir/apt.conf"
}

# from_sid: the package of Debian sid, from the mirror that this machine uses anyway.
from_sid() {
  local mirror dir=$work/sid found=""
  while read -r mirror; do
    [[ -n $mirror ]] || continue
    found=yes
    say "fetching Debian sid's package from the mirror that apt is set up with (once)"
    rm -rf "$dir"
    private_apt "$dir" "$mirror"
    if (export APT_CONFIG=$dir/apt.conf && apt-get -qq update) >"$dir/log" 2>&1 </dev/null \
      && APT_CONFIG=$dir/apt.conf unpack "$dir"; then
      return
    fi
    tried+=("Debian sid from $mirror: $(complaint "$dir/log")")
  done <<<"$(mirrors)"
  if [[ -z $found ]]; then tried+=("apt: its sources name no archive of this release"); fi
  return 1
}

complaint() { grep -m1 -E '^[EW]:' "$1" || printf 'no package that runs here'; }

install_one() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    tried+=("install: there is no apt on this machine")
    return 1
  fi
  mkdir -p "$tools"
  # Two runs at once need one download; without flock both download, and both renames are harmless.
  if command -v flock >/dev/null; then
    exec 9>"$tools/$program.lock"
    flock 9
    if [[ -x $installed ]] && usable "$installed" ".tools"; then return; fi
    rm -rf "$tools/$program".tmp.* # of a run that was killed
  fi
  work=$(mktemp -d "$tools/$program.tmp.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  from_own_release "$RECOMMENDED" || from_sid || from_own_release "$OLDEST"
}

give_up() {
  say "found no usable $program ($OLDEST or newer, $RECOMMENDED recommended)"
  printf '  tried: %s\n' "${tried[@]}" >&2
  if [[ $(uname -s) == Darwin ]]; then
    printf 'hint: brew install %s\n' "$program" >&2
  else
    printf 'hint: install %s, or set %s=/path/to/%s\n' "$program" "$variable" "$program" >&2
  fi
  exit 1
}

# find_program: prints the path.
find_program() {
  local path named=${!variable:-}
  if [[ -n $named ]]; then
    # Named by hand: whoever did so wants to know that it will not do, rather than get another one.
    path=$(command -v "$named") || path=$named
    usable "$path" "$variable" || give_up
    path=$(cd "$(dirname "$path")" && pwd -P)/$(basename "$path")
  elif [[ -x $installed ]] && usable "$installed" ".tools"; then
    path=$installed
  elif path=$(command -v "$program") && usable "$path" "PATH"; then
    :
  else
    if [[ -z $path ]]; then tried+=("PATH: no $program"); fi
    install_one || give_up
    path=$installed
  fi
  printf '%s\n' "$path"
}
