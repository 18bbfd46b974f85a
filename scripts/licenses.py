#!/usr/bin/env python3
"""Prints the licences of every crate that is compiled into the program. Usage: licenses.py TARGET [FEATURES].

The list of crates is that of cargo for TARGET, without dependencies of build scripts and tests. The licence texts are
the files in each crate. If several crates have the same text, it is printed once. A crate without such a file is listed
with its SPDX expression, whose texts other crates have.
"""
import json
import pathlib
import subprocess
import sys

NAMES = ('license', 'licence', 'copying', 'notice', 'unlicense', 'copyright')


def compiled_in(metadata):
    """Returns the packages on which the root package depends, directly or indirectly, sorted by name and version."""
    nodes = {node['id']: node for node in metadata['resolve']['nodes']}
    root = metadata['resolve']['root']
    found, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]['deps']:
            normal = any(kind['kind'] is None for kind in dependency['dep_kinds'])
            if normal and dependency['pkg'] not in found:
                found.add(dependency['pkg'])
                waiting.append(dependency['pkg'])
    packages = [package for package in metadata['packages'] if package['id'] in found]
    return sorted(packages, key=lambda package: (package['name'], package['version']))


def texts_of(package):
    """Returns the texts of a crate's licence files."""
    directory = pathlib.Path(package['manifest_path']).parent
    files = sorted(file for file in directory.iterdir() if file.is_file() and file.name.lower().startswith(NAMES))
    if not files and package.get('license_file'):
        files = [directory / package['license_file']]
    return [file.read_text('utf-8', 'replace').replace('\r\n', '\n').strip() for file in files]


def metadata_of(target, features=None):
    """Returns cargo's metadata of this package for a target, with the default features or with these features."""
    command = ['cargo', 'metadata', '--format-version', '1', '--locked', '--filter-platform', target]
    if features is not None:
        command += ['--no-default-features', '--features', features]
    return json.loads(subprocess.check_output(command))


def main():
    packages = compiled_in(metadata_of(*sys.argv[1:]))

    unnamed = [f"{p['name']} {p['version']}" for p in packages if not p.get('license') and not p.get('license_file')]
    if unnamed:
        sys.exit(f"error: these crates name no licence: {', '.join(unnamed)}")

    users = {}
    print(f'Vectile contains {len(packages)} crates by other authors. Each is used under the licence named here;')
    print('the texts that the crates ship follow the list.\n')
    for package in packages:
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package.get('license') or package['license_file']}")
        for text in texts_of(package):
            users.setdefault(text, []).append(name)
    for text, names in users.items():
        print('\n' + '=' * 100)
        print('\n'.join(names))
        print('-' * 100)
        print(text)


if __name__ == '__main__':
    main()
