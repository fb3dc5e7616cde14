/**
 * The commands that a node carries out, by topic, in the order of the help. A new command is one file and one row
 * here.
 */

import { completeCommands } from '../lib/command-line.ts'
import { FlexMeshError } from '../lib/errors.ts'
import type { FlexMeshNode } from '../node/node.ts'
import type { CommandRow, NodeCommand } from './command.ts'
import type { Style } from './terminal.ts'

type NodeRow = CommandRow<NodeCommand>

/** Lines of any length without colours, for programs that lay them out themselves. */
const PLAIN: Style = { color: false }

export const MEMBERSHIP_COMMANDS: readonly NodeRow[] = [
  {
    name: 'status',
    isReadOnly: true,
    summary: 'show the node on one screen, and what waits for you',
    load: async () => (await import('./status.ts')).STATUS,
  },
  {
    name: 'invite',
    summary: 'print one line of text that lets one institution join',
    isConsortiumCommand: true,
    load: async () => (await import('./admission.ts')).INVITE,
  },
  {
    name: 'members',
    isReadOnly: true,
    summary: 'list the members, those connected, and those who wait for approval',
    isConsortiumCommand: true,
    load: async () => (await import('./members.ts')).MEMBERS,
  },
  {
    name: 'key show',
    isReadOnly: true,
    summary: 'show the institution key and the node key of this institution, and what they replaced',
    load: async () => (await import('./key.ts')).KEY_SHOW,
  },
  {
    name: 'key request',
    summary: 'write a file in which the institution key, on another machine, confirms the key of this node',
    load: async () => (await import('./key.ts')).KEY_REQUEST,
  },
  {
    name: 'key accept',
    summary: 'take the confirmation of the key of this node from a file that was signed elsewhere',
    load: async () => (await import('./key.ts')).KEY_ACCEPT,
  },
  {
    name: 'connect',
    summary: 'tell the node at which address a member can be reached now',
    load: async () => (await import('./members.ts')).CONNECT,
  },
  {
    name: 'approve',
    summary: 'support the admission of everyone who waits, or of one institution',
    isConsortiumCommand: true,
    load: async () => (await import('./admission.ts')).APPROVE,
  },
  {
    name: 'propose',
    summary: 'propose to admit, revoke, rotate a key, change the rules, or renew',
    isConsortiumCommand: true,
    load: async () => (await import('./proposals.ts')).PROPOSE,
  },
  {
    name: 'proposals',
    isReadOnly: true,
    summary: 'list proposals, who supports them, and who has still to answer',
    isConsortiumCommand: true,
    load: async () => (await import('./proposals.ts')).PROPOSALS,
  },
  {
    name: 'endorse',
    summary: 'support a proposal of another member',
    isConsortiumCommand: true,
    load: async () => (await import('./proposals.ts')).ENDORSE,
  },
  {
    name: 'reject',
    summary: 'dismiss the request of an institution that waits, or vote against a proposal',
    isConsortiumCommand: true,
    load: async () => (await import('./proposals.ts')).REJECT,
  },
  {
    name: 'revoke',
    summary: 'propose to end the membership of an institution',
    isConsortiumCommand: true,
    load: async () => (await import('./members.ts')).REVOKE,
  },
  {
    name: 'renew',
    summary: 'propose to confirm the membership of everyone for another year',
    isConsortiumCommand: true,
    load: async () => (await import('./members.ts')).RENEW,
  },
  {
    name: 'leave',
    summary: 'end the membership of this institution',
    isConsortiumCommand: true,
    load: async () => (await import('./proposals.ts')).LEAVE,
  },
]

export const LOG_COMMANDS: readonly NodeRow[] = [
  {
    name: 'log',
    isReadOnly: true,
    summary: 'show which statements of each member are final: cosigned by enough others',
    load: async () => (await import('./log.ts')).LOG,
  },
  {
    name: 'audit export',
    summary: 'write everything that an outsider needs to check the logs as one file',
    load: async () => (await import('./audit-export.ts')).AUDIT_EXPORT,
  },
]

export const OWNER_COMMANDS: readonly NodeRow[] = [
  {
    name: 'train',
    summary: 'train an expert on your own text, here or from an exported pair elsewhere',
    load: async () => (await import('./train.ts')).TRAIN,
  },
  {
    name: 'trainings',
    isReadOnly: true,
    summary: 'list the trainings of this node: running, interrupted, finished, published',
    load: async () => (await import('./trainings.ts')).TRAININGS,
  },
  {
    name: 'jobs',
    isReadOnly: true,
    summary: 'show what the running node computes now: trainings, judging, evaluations',
    load: async () => (await import('./jobs.ts')).JOBS,
  },
  {
    name: 'audit',
    summary: 'attack a trained expert as others could: canaries, extraction, membership',
    load: async () => (await import('./audit.ts')).AUDIT,
  },
  {
    name: 'publish',
    summary: 'pack, sign and announce a trained expert',
    load: async () => (await import('./publish.ts')).PUBLISH,
  },
  {
    name: 'privacy',
    isReadOnly: readsWith(),
    summary: 'show what each text has spent of its privacy, and on what; set a limit',
    load: async () => (await import('./privacy.ts')).PRIVACY,
  },
  {
    name: 'withdraw',
    summary: 'withdraw a published expert, so that members stop using it',
    load: async () => (await import('./publish.ts')).WITHDRAW,
  },
  {
    name: 'withdrawals',
    isReadOnly: true,
    summary: 'show which members have answered each withdrawal, and what they deleted',
    load: async () => (await import('./withdrawals.ts')).WITHDRAWALS,
  },
]

export const PRIVACY_COMMANDS: readonly NodeRow[] = [
  {
    name: 'egress',
    isReadOnly: readsWith('verify'),
    summary: 'show what left this node and to whom; verify or prune the ledger of it',
    load: async () => (await import('./egress.ts')).EGRESS,
  },
  {
    name: 'data',
    isReadOnly: true,
    summary: 'list every private copy in the home folder, with size, age and mode',
    load: async () => (await import('./data.ts')).DATA,
  },
  {
    name: 'gc',
    summary:
      'remove left-over files, checkpoints of published trainings and stale caches from the home folder',
    load: async () => (await import('./gc.ts')).GC,
  },
  {
    name: 'forget',
    summary: 'delete all of a training: tokens, checkpoints, held-out text; keeps its published package',
    load: async () => (await import('./data.ts')).FORGET,
  },
]

export const COMPOSITION_COMMANDS: readonly NodeRow[] = [
  {
    name: 'experts',
    isReadOnly: true,
    summary: 'list the experts in use, and the verdict on every package',
    load: async () => (await import('./experts.ts')).EXPERTS,
  },
  {
    name: 'accept',
    summary: 'check a refused package again',
    load: async () => (await import('./experts.ts')).ACCEPT,
  },
  {
    name: 'refuse',
    summary: 'stop using an accepted package',
    load: async () => (await import('./experts.ts')).REFUSE,
  },
  {
    name: 'compose',
    summary: 'show the composition of selected experts and its digest; can write it as a model folder',
    load: async () => (await import('./compose.ts')).COMPOSE,
  },
  {
    name: 'evaluate',
    summary: 'measure bits per byte and routing on your own text: public model, each expert, composition',
    load: async () => (await import('./evaluate.ts')).EVALUATE,
  },
  {
    name: 'generate',
    isReadOnly: true,
    summary: 'complete a prompt with the current composition',
    load: async () => (await import('./generate.ts')).GENERATE,
  },
]

/** Commands about the API of the node. */
export const SERVING_COMMANDS: readonly NodeRow[] = [
  {
    name: 'keys',
    isReadOnly: readsWith('list'),
    summary: 'make, list and end API keys for people and programs',
    load: async () => (await import('./keys.ts')).KEYS,
  },
  {
    name: 'usage',
    isReadOnly: true,
    summary: 'show what the API has answered, by key and day',
    load: async () => (await import('./keys.ts')).USAGE,
  },
]

/** Lets another process use the folder of a training; not listed in the help. */
const CLAIM: NodeRow = {
  name: 'claim',
  summary: 'keep the folder of a training for another process',
  load: async () => (await import('./jobs.ts')).CLAIM,
}

/** Lets the command line find out whether a node runs; not listed in the help. */
const PING: NodeRow = {
  name: 'ping',
  isReadOnly: true,
  summary: 'ask the running node who it is',
  load: async () => (await import('./members.ts')).PING,
}

const NODE_COMMANDS = [
  PING,
  CLAIM,
  ...MEMBERSHIP_COMMANDS,
  ...LOG_COMMANDS,
  ...OWNER_COMMANDS,
  ...COMPOSITION_COMMANDS,
  ...PRIVACY_COMMANDS,
  ...SERVING_COMMANDS,
]

/** Carries out a command for a request that is not checked yet; yields progress and returns the result. */
type Handler = (request: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>

/** Whether a command of a node changes nothing with a request, which is not checked yet. */
export function isReadOnly(name: string, request: unknown): boolean {
  const row = NODE_COMMANDS.find((one) => one.name === name)
  return typeof row?.isReadOnly === 'function' ? row.isReadOnly(request) : row?.isReadOnly === true
}

/** For commands whose first word chooses what they do: whether it is absent or one of these. */
function readsWith(...actions: readonly string[]): (request: unknown) => boolean {
  return (request) => {
    const action =
      typeof request === 'object' && request !== null && 'action' in request ? request.action : undefined
    return action === undefined || (typeof action === 'string' && actions.includes(action))
  }
}

/** The commands of one node by name, as the control socket serves them. */
export function nodeCommands(node: FlexMeshNode): Record<string, Handler> {
  return handlersOf(async function* ({ load }, request, signal) {
    const command = await load()
    return yield* command.run(node, command.decode(request), signal)
  })
}

/** What a command returns to a program that shows results without knowing the command. */
export interface WordedResult {
  readonly result: unknown
  /** The result for people, as lines. */
  readonly words: readonly string[]
}

/** The same commands, which return a `WordedResult`. Progress is that of the command. */
export function wordedCommands(node: FlexMeshNode): Record<string, Handler> {
  return handlersOf(async function* ({ load }, request, signal): AsyncGenerator<unknown, WordedResult, void> {
    const command = await load()
    const complete = (text: string): string => completeCommands(text, node.homeOptions)
    try {
      const result = yield* command.run(node, command.decode(request), signal)
      const words = command.words(result, PLAIN)
      return { result, words: command.isVerbatim === true ? words : words.map(complete) }
    } catch (error) {
      if (error instanceof FlexMeshError) error.message = complete(error.message)
      throw error
    }
  })
}

function handlersOf(
  run: (row: NodeRow, request: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>,
): Record<string, Handler> {
  return Object.fromEntries(
    NODE_COMMANDS.map((row): [string, Handler] => [row.name, (request, signal) => run(row, request, signal)]),
  )
}
