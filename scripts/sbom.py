#!/usr/bin/env python3
"""Prints the software bill of materials of the program: a CycloneDX 1.6 document in JSON. Usage: sbom.py TARGET [FEATURES].

The document lists the crates that are compiled into the program for TARGET (those of licenses.py), each with its
version, licence, SHA-256 and direct dependencies. The same commit gives the same document, because the date is
SOURCE_DATE_EPOCH or 1970, and the serial number comes from the content.
"""
import datetime
import json
import os
import pathlib
import sys
import tomllib
import uuid

from licenses import compiled_in, metadata_of

ROOT = pathlib.Path(__file__).parent.parent


def reference(package):
    """Returns the package URL of a crate, which identifies it in the document."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, kind, checksums):
    """Returns the entry of a crate."""
    entry = {
        'type': kind,
        'bom-ref': reference(package),
        'name': package['name'],
        'version': package['version'],
        'purl': reference(package),
    }
    if package.get('description'):
        entry['description'] = ' '.join(package['description'].split())
    if package.get('license'):
        # Some crates have the form `MIT/Apache-2.0`, which older versions of cargo accepted.
        entry['licenses'] = [{'expression': package['license'].replace('/', ' OR ')}]
    checksum = checksums.get((package['name'], package['version']))
    if checksum:
        entry['hashes'] = [{'alg': 'SHA-256', 'content': checksum}]
    if package.get('repository'):
        entry['externalReferences'] = [{'type': 'vcs', 'url': package['repository']}]
    return entry


def document(metadata, lock, date):
    """Returns the whole document."""
    packages = compiled_in(metadata)
    root_id = metadata['resolve']['root']
    root = next(package for package in metadata['packages'] if package['id'] == root_id)
    names = {package['id']: reference(package) for package in [root, *packages]}
    checksums = {(p['name'], p['version']): p['checksum'] for p in lock['package'] if 'checksum' in p}
    graph = []
    for node in sorted(metadata['resolve']['nodes'], key=lambda node: node['id']):
        if node['id'] in names:
            normal = {dep['pkg'] for dep in node['deps'] if any(kind['kind'] is None for kind in dep['dep_kinds'])}
            graph.append({'ref': names[node['id']], 'dependsOn': sorted(names[each] for each in normal if each in names)})
    content = {
        'metadata': {'timestamp': date, 'component': component(root, 'application', checksums)},
        'components': [component(package, 'library', checksums) for package in packages],
        'dependencies': graph,
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    head = {'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'serialNumber': f'urn:uuid:{serial}', 'version': 1}
    return head | content


def main():
    metadata = metadata_of(*sys.argv[1:])
    lock = tomllib.loads((ROOT / 'Cargo.lock').read_text('utf-8'))
    seconds = int(os.environ.get('SOURCE_DATE_EPOCH', '0'))
    date = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    found = document(metadata, lock, date)
    without = [c['name'] for c in found['components'] if 'licenses' not in c or 'hashes' not in c]
    if without:
        sys.exit(f"error: these crates have no licence expression or no checksum: {', '.join(without)}")
    print(json.dumps(found, indent=1, ensure_ascii=False))


main()
