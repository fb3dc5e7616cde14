/** Parameters that several commands share, so that they have one name and one range everywhere. */
import { ownCommand } from '../lib/command-line.ts'
import { ROUTER_CHOICES } from '../model/gates.ts'
import { byteSize, oneOf, option, type Parameter, positional, repeated, text, whole } from './parameters.ts'

const MAX_SHARD_MEGABYTES = 1_000_000
/** Experts that one selection may name, and characters of each name: a package id has 71. */
const MAX_NAMES = 64
const MAX_NAME = 200
const MAX_ADDRESS = 200
const MAX_LISTEN = 8
const MAX_COLUMN = 1000

/** The name of a training, and of the expert that it trains. */
export const EXPERT_NAME = text(64)

/** An institution or its peer id. */
export const INSTITUTION = text(100)

/** For any model; the ranks that a model allows are checked where its sizes are known. */
export const RANK = whole(1, 65_536)

const MIN_MEMORY = 100e6
const MAX_MEMORY = 1e15

/** Memory that a computation may take; undefined means `defaultMemoryBudget`. */
export const MEMORY: Parameter<number | undefined> = option(
  'memory',
  'memory to use at most, as in 12GB or 12GiB (default: three quarters of the free memory)',
  byteSize(MIN_MEMORY, MAX_MEMORY),
)

/** The column with the text. */
export const COLUMN = option(
  'column',
  'column of .csv and .parquet, or member of .jsonl, that holds the text (default: text)',
  text(MAX_COLUMN),
)

export const SHARD_MEGABYTES: Parameter<number | undefined> = option(
  'shard-size',
  'maximum megabytes of weights per file (default 5000)',
  whole(1, MAX_SHARD_MEGABYTES),
)

/** Bytes of a shard; undefined if the request does not say. */
export function shardBytes(megabytes: number | undefined): number | undefined {
  return megabytes === undefined ? undefined : megabytes * 1e6
}

export const ROUTER = option(
  'router',
  'auto (default): a gate computed from router statistics, beside the router rows that owners trained; solved: leaves out experts without statistics; rows: the rows alone',
  oneOf(...ROUTER_CHOICES),
)

/** Checked where multiaddrs are known. */
export const listenOption = (help: string): Parameter<string[] | undefined> =>
  repeated('listen', help, MAX_ADDRESS, MAX_LISTEN)

export const INCLUDE = repeated('include', 'use only these experts', MAX_NAME, MAX_NAMES)
export const EXCLUDE = repeated('exclude', 'never use these experts', MAX_NAME, MAX_NAMES)

/** A published training by its name. */
export const trainingName = (command: string): Parameter<string> =>
  positional(EXPERT_NAME, `name the training, as in ${ownCommand(command, 'NAME')}`)
