/**
 * All commands of the program in the order of the help: those that the command line carries out itself, and those of
 * a node.
 */
import type { CommandRow, NodeCommand } from '../commands/command.ts'
import {
  COMPOSITION_COMMANDS,
  LOG_COMMANDS,
  MEMBERSHIP_COMMANDS,
  OWNER_COMMANDS,
  PRIVACY_COMMANDS,
  SERVING_COMMANDS,
} from '../commands/table.ts'
import type { LocalCommand } from './local-command.ts'

export type Command = NodeCommand | LocalCommand

export const COMMANDS: readonly CommandRow<Command>[] = [
  {
    name: 'demo',
    summary: 'run three institutions on this machine through every step, then serve',
    load: async () => (await import('./demo.ts')).DEMO,
  },
  {
    name: 'init',
    summary: 'create a home folder and a key',
    load: async () => (await import('./init.ts')).INIT,
  },
  {
    name: 'passphrase',
    summary: 'encrypt the key under another passphrase',
    load: async () => (await import('./change-passphrase.ts')).PASSPHRASE,
  },
  {
    name: 'key delegate',
    summary: 'name a node key of this home with the institution key, which may then lie offline',
    load: async () => (await import('./key.ts')).KEY_DELEGATE,
  },
  {
    name: 'key rotate',
    summary: 'replace the institution key by the next key that it has committed',
    load: async () => (await import('./key.ts')).KEY_ROTATE,
  },
  {
    name: 'key revoke',
    summary: 'end the node key with the institution key, for example after a theft',
    load: async () => (await import('./key.ts')).KEY_REVOKE,
  },
  {
    name: 'key sign',
    summary: 'sign the request of a node with the institution key, on a machine without the node',
    load: async () => (await import('./key-sign.ts')).KEY_SIGN,
  },
  {
    name: 'consortium create',
    summary: 'found a consortium around a public model',
    load: async () => (await import('./create.ts')).CREATE,
  },
  {
    name: 'consortium sign',
    summary: 'sign the charter of a consortium that several institutions found together',
    load: async () => (await import('./sign-charter.ts')).SIGN_CHARTER,
  },
  {
    name: 'join',
    summary: 'join a consortium; waits until the members approve',
    isConsortiumCommand: true,
    load: async () => (await import('./join.ts')).JOIN,
  },
  {
    name: 'start',
    summary: 'run the node: network, acceptance of experts, inference API',
    load: async () => (await import('./start.ts')).START,
  },
  {
    name: 'dashboard',
    summary: "print a link to the running node's dashboard",
    load: async () => (await import('./dashboard.ts')).DASHBOARD,
  },
  {
    name: 'service print',
    summary: 'print a systemd unit that runs the node of this home folder',
    load: async () => (await import('./service.ts')).SERVICE_PRINT,
  },
  {
    name: 'service install',
    summary: 'write this unit, and tell how to start it',
    load: async () => (await import('./service.ts')).SERVICE_INSTALL,
  },
  {
    name: 'backup',
    summary: 'write keys, settings and the records of the node as one encrypted file',
    load: async () => (await import('./backup.ts')).BACKUP,
  },
  {
    name: 'restore',
    summary: 'make a home folder from a backup',
    load: async () => (await import('./backup.ts')).RESTORE,
  },
  ...MEMBERSHIP_COMMANDS,
  ...OWNER_COMMANDS,
  {
    name: 'import-expert',
    summary: 'import an expert that was trained elsewhere, from a two-expert FlexOlmo checkpoint',
    load: async () => (await import('./import.ts')).IMPORT_EXPERT,
  },
  ...COMPOSITION_COMMANDS,
  ...SERVING_COMMANDS,
  ...PRIVACY_COMMANDS,
  ...LOG_COMMANDS,
  {
    name: 'audit verify',
    summary: 'check such a file, without a node and without a network',
    load: async () => (await import('./audit-verify.ts')).AUDIT_VERIFY,
  },
  {
    name: 'config',
    summary: 'show the value of every option, and where it comes from',
    load: async () => (await import('./config.ts')).CONFIG,
  },
  {
    name: 'doctor',
    summary: 'show what this machine offers and what is missing',
    load: async () => (await import('./doctor.ts')).DOCTOR,
  },
]

/** Whether a word begins the names of commands with two words, as in "consortium create". */
export function isGroup(word: string): boolean {
  return COMMANDS.some(({ name }) => name.startsWith(`${word} `))
}

/** Undefined for a name that no command has. */
export function commandNamed(name: string): CommandRow<Command> | undefined {
  return COMMANDS.find((row) => row.name === name)
}
