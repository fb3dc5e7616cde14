/**
 * What a command is: a row of a table and a file. The row has the name and the summary, which are all that
 * `flexmesh --help` loads. The file has one object with the parameters, the work and the words of the command; the
 * help of the command, the parser of the command line and the control socket are built from it.
 *
 * Such files are loaded for `flexmesh COMMAND --help` and for commands that the running node carries out, which should
 * not wait for libp2p or a tensor library. They therefore import types and light modules only; whatever needs those
 * libraries is imported by `run` when it runs.
 */
import type { FlexMeshNode } from '../node/node.ts'
import {
  decodeRequest,
  type Invocation,
  type Option,
  type ParameterTable,
  type RequestOf,
  readRequest,
} from './parameters.ts'
import type { Style } from './terminal.ts'

/** A row of a table of commands. */
export interface CommandRow<C extends CommandForm = CommandForm> {
  readonly name: string
  readonly summary: string
  /** Whether it may also be written after the word "consortium". */
  readonly isConsortiumCommand?: true
  /**
   * Whether the command changes nothing, neither on disk nor in the network: with any request, or with this one, which is
   * not checked yet. Default: it may change something.
   */
  readonly isReadOnly?: true | ((request: unknown) => boolean)
  load(): Promise<C>
}

/** What help and parsing need to know about a command. */
export interface CommandForm {
  /** As in the row of the command. */
  readonly name: string
  readonly usage: string
  readonly parameters: ParameterTable
  /** Options that concern the command line only and are not part of the request. */
  readonly clientOptions?: readonly Option[]
}

/** A line about progress. */
export interface ProgressLine {
  readonly text: string
  /** Whether the line stays on the screen; otherwise the next line replaces it. */
  readonly stays: boolean
}

/** What a command does, and how it reads. */
interface CommandWork<Q, P, R> {
  /** Yields progress, returns the result; both are JSON. */
  run(node: FlexMeshNode, request: Q, signal: AbortSignal): AsyncGenerator<P, R, void>
  /** The result for people, as lines, which name commands by `ownCommand`. */
  words(result: R, style: Style): string[]
  /** Whether these lines hold text that must be shown unchanged, and name no commands. */
  readonly isVerbatim?: true
  /** Undefined for progress that is not shown. */
  progress?(event: P): ProgressLine | undefined
  /** Present if the command line asks before it runs this command on a terminal. */
  readonly confirmation?: Confirmation<R>
  /** Whether the command line can repeat the command until it is interrupted, with the option `watch`. */
  readonly isWatchable?: true
  /** Whether the command did less than it was asked to do; the program then ends with 1. Default: it did all. */
  isIncomplete?(result: R): boolean
  /**
   * Called by the command line before the command runs, so that mistakes are found early.
   * @returns undefined if there is nothing to do with the result but to print it.
   */
  prepare?(invocation: Invocation): Promise<FollowUp<R> | undefined>
}

/** How the command line asks before it runs a command. */
export interface Confirmation<R> {
  /** The option, without a value, that answers yes. */
  readonly option: string
  /** Added to the request, it makes the command show what it would do, and do nothing. */
  readonly preview: Readonly<Record<string, unknown>>
  /** Undefined if there is nothing to ask about what the preview returned. */
  question(preview: R): string | undefined
  /** Printed after any answer but yes. */
  readonly declined: string
}

/** What the command line itself does with a result, such as writing a file. */
export interface FollowUp<R> {
  /** @returns lines to print. */
  use(result: R): Promise<string[]>
}

/**
 * A command that an open node carries out: the running node, through its control socket, or one that the command line
 * opens for this command. Tables hold commands without their types, so a request and a result must only be given to
 * the command that they come from.
 */
export interface NodeCommand<Q = unknown, P = unknown, R = unknown>
  extends CommandForm,
    CommandWork<Q, P, R> {
  /** The request as JSON. @throws InputError `usage`, and whatever a parameter reads from disk. */
  arguments(invocation: Invocation): Promise<Record<string, unknown>>
  /** Check a request, whoever sent it. @throws FormatError `bad-field`. */
  decode(request: unknown): Q
}

/** Completes a command with the reader and the decoder that follow from its parameters. */
export function nodeCommand<T extends ParameterTable, P, R>(
  definition: CommandForm & { readonly parameters: T } & CommandWork<RequestOf<T>, P, R>,
): NodeCommand<RequestOf<T>, P, R> {
  const { name, parameters } = definition
  return {
    ...definition,
    arguments: (invocation) => readRequest(parameters, invocation),
    decode: (request) => decodeRequest(parameters, request, name),
  }
}
