/**
 * Options of `npm run bench -- fuzz`: beginnings of the names of decoders (all without any), `--seconds S` or `--copies N` for
 * each of them, and `--signatures N`, which compares the decisions about signatures and runs no decoder.
 */
import { parseArgs } from 'node:util'
import { InputError } from '../../../src/lib/errors.ts'

const DEFAULT_SECONDS = 5
const MAX = 1e9

export interface FuzzOptions {
  readonly decoders: readonly string[]
  /** When a decoder has had enough copies: after this time, or after this number. */
  readonly until: { readonly seconds: number } | { readonly copies: number }
  /** Number of signatures to compare; undefined: run the decoders. */
  readonly signatures?: number
}

/** @throws InputError `usage`. */
export function readOptions(args: readonly string[]): FuzzOptions {
  const { values, positionals } = parsed(args)
  const copies = whole('copies', values.copies)
  const seconds = whole('seconds', values.seconds)
  const signatures = whole('signatures', values.signatures)
  return {
    decoders: positionals,
    until: copies === undefined ? { seconds: seconds ?? DEFAULT_SECONDS } : { copies },
    ...(signatures === undefined ? {} : { signatures }),
  }
}

function parsed(args: readonly string[]) {
  try {
    const options = {
      seconds: { type: 'string' },
      copies: { type: 'string' },
      signatures: { type: 'string' },
    } as const
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new InputError('usage', `fuzz: ${error.message}`, {}, error)
  }
}

function whole(name: string, given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  const value = Number(given)
  if (Number.isInteger(value) && value >= 1 && value <= MAX) return value
  throw new InputError('usage', `fuzz: --${name}: expected a whole number from 1 on, got "${given}"`)
}
