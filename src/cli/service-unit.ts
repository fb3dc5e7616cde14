/**
 * Writes the systemd unit of a node. `ops/flexmesh.service` is its text for a program and a home folder in their usual
 * places. Does not touch the disk or systemd.
 */
import { usage } from '../commands/parameters.ts'

export interface ServiceUnit {
  /** Name of the service, as in "flexmesh". */
  readonly name: string
  /** Words that start the program, as in ["/usr/bin/node", "/opt/flexmesh/dist/src/main.js"]. */
  readonly program: readonly string[]
  /** Absolute path of the home folder. */
  readonly home: string
  /** User who owns the home folder; undefined if systemd creates user and folder, which is then `/var/lib/NAME`. */
  readonly user?: string
  /** Absolute path of a file with the passphrase of the key; undefined for a key in the clear. */
  readonly passphraseFile?: string
}

/** Names that are valid for a unit, a user that systemd creates, and a folder. */
const NAME = /^[a-z][a-z0-9-]{0,30}$/
/** Folders that `ProtectHome` hides; a program or a home folder may lie there. */
const HIDDEN_BY_PROTECT_HOME = /^\/(?:home|root|run\/user)(?:\/|$)/

/** Where systemd puts the credential `passphrase`; it expands the variable. */
const CREDENTIAL = `\${CREDENTIALS_DIRECTORY}/passphrase`

/** The folder that systemd creates for a service of this name. */
export function stateFolder(name: string): string {
  return `/var/lib/${name}`
}

/** @throws InputError `usage` for a name or a path that a unit cannot hold. */
export function serviceUnit({ name, program, home, user, passphraseFile }: ServiceUnit): string {
  if (!NAME.test(name)) {
    throw usage(
      `name: expected a service name of lower-case letters, digits and "-", as in "flexmesh", got "${name}"`,
    )
  }
  const isHidden = [...program, home].some((path) => HIDDEN_BY_PROTECT_HOME.test(path))
  const credential =
    passphraseFile === undefined
      ? []
      : [
          '# The passphrase of the key, readable by this service only.',
          `LoadCredential=passphrase:${escaped(passphraseFile)}`,
        ]
  const start = [...program, 'start', '--home', home].map(word).join(' ')
  return `${[
    `# systemd unit of a FlexMesh node. "flexmesh service print" prints one for another program or home folder, and`,
    '# "flexmesh service install" writes it. After a copy by hand to /etc/systemd/system/:',
    `#   systemctl daemon-reload && systemctl enable --now ${name}`,
    ...(user === undefined
      ? [
          `# The home folder is ${home}. Create the node in it once, as the user of the service:`,
          `#   systemd-run --pty -p DynamicUser=yes -p StateDirectory=${name} -p User=${name} flexmesh init --home ${home} ...`,
        ]
      : []),
    '[Unit]',
    'Description=FlexMesh node',
    'Documentation=https://www.npmjs.com/package/flexmesh',
    'After=network-online.target',
    'Wants=network-online.target',
    '',
    '[Service]',
    'Type=exec',
    `User=${user ?? name}`,
    ...(user === undefined
      ? ['DynamicUser=yes', `StateDirectory=${name}`, 'StateDirectoryMode=0700']
      : [`ReadWritePaths=${word(home)}`]),
    'UMask=0077',
    ...credential,
    `ExecStart=${start}${passphraseFile === undefined ? '' : ` --passphrase-file ${CREDENTIAL}`}`,
    '# A training writes its checkpoint before the node ends.',
    'TimeoutStopSec=90',
    'KillSignal=SIGTERM',
    'Restart=on-failure',
    'RestartSec=10',
    '',
    '# Node compiles code while it runs, so MemoryDenyWriteExecute cannot be used.',
    'NoNewPrivileges=yes',
    'CapabilityBoundingSet=',
    'AmbientCapabilities=',
    'LockPersonality=yes',
    'PrivateDevices=yes',
    'PrivateTmp=yes',
    'PrivateUsers=yes',
    'ProcSubset=pid',
    'ProtectClock=yes',
    'ProtectControlGroups=yes',
    `ProtectHome=${isHidden ? 'read-only' : 'yes'}`,
    'ProtectHostname=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    'ProtectProc=invisible',
    'ProtectSystem=strict',
    'RemoveIPC=yes',
    'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK',
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged @resources',
    'SystemCallErrorNumber=EPERM',
    '',
    '[Install]',
    'WantedBy=multi-user.target',
  ].join('\n')}\n`
}

/** A word of a command line or a list of paths, quoted where systemd would split or expand it. */
function word(text: string): string {
  const safe = escaped(text)
  return /^[\w./:@+-]+$/.test(text) ? safe : `"${safe.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

/** Without meaning for specifiers ("%n") and variables ("$HOME"). */
function escaped(text: string): string {
  if (/\p{Cc}/u.test(text)) throw usage('a path with control characters cannot be named in a systemd unit')
  return text.replaceAll('%', '%%').replaceAll('$', '$$$$')
}
