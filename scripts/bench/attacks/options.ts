/**
 * Options of `npm run bench -- attacks`: beginnings of the names of attacks (all without any), `--rounds N` pairs of a calm
 * round and one under attack, and `--seconds S`, the minimum length of a round.
 */
import { parseArgs } from 'node:util'
import { InputError } from '../../../src/lib/errors.ts'
import type { Attack } from './attack.ts'

const DEFAULT_PAIRS = 2
/** The attackers' keys are made from one byte, and each pair of rounds needs other ones. */
const MAX_PAIRS = 5
const DEFAULT_SECONDS = 8
const MAX_SECONDS = 3600

export interface AttackOptions {
  readonly attacks: readonly Attack[]
  readonly pairs: number
  readonly roundMs: number
}

/** @throws InputError `usage`. */
export function readOptions(args: readonly string[], all: readonly Attack[]): AttackOptions {
  const { values, positionals } = parsed(args)
  for (const beginning of positionals) {
    if (all.some(({ name }) => name.startsWith(beginning))) continue
    const names = all.map(({ name }) => `"${name}"`).join(', ')
    throw new InputError('usage', `attacks: expected beginnings of ${names}; got "${beginning}"`)
  }
  return {
    attacks: all.filter(
      ({ name }) => positionals.length === 0 || positionals.some((beginning) => name.startsWith(beginning)),
    ),
    pairs: whole('rounds', values.rounds, DEFAULT_PAIRS, MAX_PAIRS),
    roundMs: 1000 * whole('seconds', values.seconds, DEFAULT_SECONDS, MAX_SECONDS),
  }
}

function parsed(args: readonly string[]) {
  try {
    const options = { rounds: { type: 'string' }, seconds: { type: 'string' } } as const
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new InputError('usage', `attacks: ${error.message}`, {}, error)
  }
}

function whole(name: string, given: string | undefined, otherwise: number, most: number): number {
  if (given === undefined) return otherwise
  const value = Number(given)
  if (Number.isInteger(value) && value >= 1 && value <= most) return value
  throw new InputError('usage', `attacks: --${name}: expected 1 to ${most}, got "${given}"`)
}
