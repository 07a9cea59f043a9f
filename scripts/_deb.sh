# A Debian package of rawtap with all that it needs of PyPI, for one CPython; sourced by release.sh.
# shellcheck shell=bash disable=SC2153

readonly DEB_PLACE=usr/lib/rawtap # an environment, so that no Debian package of one of its parts is in its way

# make_deb VERSION FOLDER WHEELS OUT: of the wheels of rawtap and python-libpcap in WHEELS; VERSION is CPython's.
make_deb() {
  say "a Debian package for CPython $1"
  local python=$1 root=$2 wheels=$3 out=$4
  umask 022
  deb_environment "$python" "$root/$DEB_PLACE" "$wheels"
  deb_documents "$root"
  py "$python" -m compileall -q --invalidation-mode unchecked-hash -s "$root" -p / "$root/$DEB_PLACE/lib"
  deb_control "$python" "$root"
  chmod -R u=rwX,go=rX "$root"
  dpkg-deb --root-owner-group --build "$root" "$out" >/dev/null
}

# As `python3 -m venv` makes it, from the interpreter that Debian has under this version.
deb_environment() {
  local python=$1 place=$2 wheels=$3
  pip "$python" install --prefix "$place" --ignore-installed --no-compile --no-warn-script-location \
    --find-links "$wheels" "rawtap[query,compressed,watch]==$VERSION" "$(pinned python-libpcap)"
  find "$place/bin" -mindepth 1 ! -name rawtap -delete
  sed -i "1s,.*,#!/$DEB_PLACE/bin/python3," "$place/bin/rawtap"
  ln -s "/usr/bin/python$python" "$place/bin/python3"
  ln -s python3 "$place/bin/python"
  cp "$ROOT/packaging/debian/setcap-command" "$place/share/rawtap"
  printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$place/pyvenv.cfg"
  find "$place" \( -name direct_url.json -o -name __pycache__ \) -prune -exec rm -rf {} +
}

# What is looked for below /usr: the command, its manual, the shells' completions.
deb_documents() {
  local root=$1 place=$1/$DEB_PLACE share=$1/usr/share
  mkdir -p "$root/usr/bin" "$share"/{man/man1,bash-completion/completions,zsh/vendor-completions,doc/rawtap/examples}
  ln -s "../lib/rawtap/bin/rawtap" "$root/usr/bin/rawtap"
  gzip -9n <"$ROOT/packaging/man/rawtap.1" >"$share/man/man1/rawtap.1.gz"
  cp "$ROOT/packaging/completions/bash/rawtap" "$share/bash-completion/completions"
  cp "$ROOT/packaging/completions/zsh/_rawtap" "$share/zsh/vendor-completions"
  rm -rf "$place"/share/{man,bash-completion,zsh}
  gzip -9n <"$ROOT/CHANGELOG.md" >"$share/doc/rawtap/changelog.gz"
  cp "$ROOT/README.md" "$share/doc/rawtap"
  cp "$ROOT/docs/rawtap.service" "$share/doc/rawtap/examples"
  {
    cat "$ROOT/packaging/debian/copyright"
    (cd "$place"/lib/python*/site-packages && printf ' %s\n' *.dist-info)
  } >"$share/doc/rawtap/copyright"
}

deb_control() {
  local python=$1 root=$2 name
  mkdir "$root/DEBIAN"
  (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  sed -e "s/@VERSION@/$VERSION-1+py${python/./}/" -e "s/@ARCHITECTURE@/$(dpkg --print-architecture)/" \
    -e "s/@PYTHON@/$python/" -e "s/@NEXT@/${python%.*}.$((${python#*.} + 1))/" \
    -e "s/@SIZE@/$(du -sk "$root/usr" | cut -f1)/" "$ROOT/packaging/debian/control" >"$root/DEBIAN/control"
  cp "$ROOT/packaging/debian/templates" "$root/DEBIAN"
  for name in config postinst prerm postrm; do install -m 755 "$ROOT/packaging/debian/$name" "$root/DEBIAN"; done
  # An update of Debian's interpreter leaves the private copy of it behind: postinst makes it anew.
  printf 'interest-noawait /usr/bin/python%s\n' "$python" >"$root/DEBIAN/triggers"
}
