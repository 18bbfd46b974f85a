"""Describes the machine."""
import datetime, os, platform, re, subprocess


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def cpu():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as f:
            found = re.search(r'^model name\s*:\s*(.+)$', f.read(), re.M)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def machine(root):
    release = platform.freedesktop_os_release() if hasattr(platform, 'freedesktop_os_release') and os.path.exists('/etc/os-release') else {}
    return {
        'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
        'cpu': cpu(),
        'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        'system': release.get('PRETTY_NAME', platform.platform()),
        'kernel': platform.release(),
        'nvidia': output('nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'),
        'commit': output('git', '-C', root, 'rev-parse', 'HEAD'),
        'changed_files': len((output('git', '-C', root, 'status', '--porcelain') or '').splitlines()),
        'load_before': os.getloadavg()[0],
    }


def slug(*parts):
    return re.sub(r'[^a-z0-9]+', '-', ' '.join(str(part) for part in parts if part).lower()).strip('-')
