/** What every command of the command line gets: the options that all commands have, and where to print. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { MEMORY } from '../commands/common-parameters.ts'
import {
  decodeRequest,
  flag,
  type Invocation,
  oneOf,
  option,
  path,
  readRequest,
  text,
  whole,
} from '../commands/parameters.ts'
import { WEIGHT_CHOICES, type WeightChoice } from '../inference/weight-format.ts'
import type { EngineChoice } from '../tensor/select-engine.ts'
import type { Output } from './output.ts'
import { readPassphrase } from './passphrase.ts'

/** The home folder if nothing names another one. */
export const DEFAULT_HOME = join(homedir(), '.flexmesh')

const MAX_THREADS = 256
const ENGINE_WORD = text(40)

/** Options of every command. */
export const GLOBAL_PARAMETERS = {
  home: option('home', 'home folder (default: FLEXMESH_HOME, else ~/.flexmesh)', path),
  config: option('config', 'configuration file (default: flexmesh.toml in the home folder)', path),
  json: flag('json', 'print one JSON object as the last line of stdout, and nothing else there'),
  passphraseFile: option('passphrase-file', 'file with the passphrase of the key', path),
  engine: option('engine', 'onnx (default), tensorflow or cpu', ENGINE_WORD),
  device: option(
    'device',
    'cpu or cuda (default: cpu; with --engine tensorflow a GPU if the machine has one)',
    ENGINE_WORD,
  ),
  threads: option('threads', 'threads of the tensor engine (default: one per CPU)', whole(0, MAX_THREADS)),
  weights: option(
    'weights',
    'format of weights in memory while answering: fp32, bf16, int8, int4, or auto (default) for the most precise one that fits --memory',
    oneOf(...WEIGHT_CHOICES),
  ),
  memory: MEMORY,
  help: flag('help', 'show this help'),
} as const

const ENGINE_OPTIONS = ['engine', 'device', 'threads', 'weights', 'memory'] as const

export interface CommandContext {
  readonly home: string
  /** The configuration file that was named; undefined for that of the home folder. */
  readonly config: string | undefined
  readonly engine: EngineChoice
  readonly weights: WeightChoice
  /** Bytes that serving may take; undefined for `defaultMemoryBudget`. */
  readonly memory: number | undefined
  /** Names of the options of the command line that a running node cannot follow. */
  readonly engineOptions: readonly string[]
  readonly output: Output
  readonly signal: AbortSignal
  /** The file with the passphrase, which `passphrase` reads; undefined if the user named none. */
  readonly passphraseFile: string | undefined
  /** Read from the file that the user named; undefined if the user named none. @throws as `readPassphrase`. */
  passphrase(): Promise<string | undefined>
}

/** @throws InputError `usage` for an option that is out of range. */
export async function contextOf(
  invocation: Invocation,
  output: Output,
  signal: AbortSignal,
): Promise<CommandContext> {
  const given = decodeRequest(
    GLOBAL_PARAMETERS,
    await readRequest(GLOBAL_PARAMETERS, invocation),
    invocation.command,
  )
  const {
    home = DEFAULT_HOME,
    config,
    engine,
    device,
    threads,
    weights = 'auto',
    memory,
    passphraseFile,
  } = given
  let passphrase: Promise<string | undefined> | undefined
  return {
    home,
    config,
    engine: {
      ...(engine === undefined ? {} : { name: engine }),
      ...(device === undefined ? {} : { device }),
      ...(threads === undefined ? {} : { threads }),
    },
    weights,
    memory,
    engineOptions: ENGINE_OPTIONS.filter(
      (name) => given[name] !== undefined && invocation.configured?.has(name) !== true,
    ),
    output,
    signal,
    passphraseFile,
    // Kept, since a pipe can be read only once.
    passphrase: () => {
      passphrase ??=
        passphraseFile === undefined ? Promise.resolve(undefined) : readPassphrase(passphraseFile, signal)
      return passphrase
    },
  }
}

export const unixNow = (): number => Math.floor(Date.now() / 1000)
