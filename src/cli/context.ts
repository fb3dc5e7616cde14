/** What every command gets, and readers of its options. */
import { readFile } from 'node:fs/promises'
import { WEIGHT_FORMATS, type WeightFormat } from '../inference/weight-format.ts'
import { InputError } from '../lib/errors.ts'
import { ROUTER_CHOICES, type RouterChoice } from '../model/gates.ts'
import type { EngineChoice } from '../tensor/select-engine.ts'
import type { Invocation } from './arguments.ts'
import type { Output } from './output.ts'

export interface CommandContext {
  readonly home: string
  readonly invocation: Invocation
  readonly output: Output
  readonly signal: AbortSignal
}

const MAX_THREADS = 256

export const unixNow = (): number => Math.floor(Date.now() / 1000)

export function option(invocation: Invocation, name: string): string | undefined {
  const value = invocation.values[name]
  return typeof value === 'string' ? value : undefined
}

export function required(invocation: Invocation, name: string): string {
  const value = option(invocation, name)
  if (value === undefined)
    throw new InputError(
      'usage',
      `--${name} is missing; "flexmesh ${invocation.command} --help" shows what it takes`,
    )
  return value
}

/** @throws InputError `usage` unless the option is a whole number in range. */
export function whole(invocation: Invocation, name: string, max: number, min = 0): number | undefined {
  const text = option(invocation, name)
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new InputError('usage', `--${name}: expected a whole number from ${min} to ${max}, got "${text}"`)
  }
  return value
}

/** `--engine`, `--device` and `--threads` as given; `selectEngine` says what is wrong with them. */
export function engineChoice(invocation: Invocation): EngineChoice {
  const name = option(invocation, 'engine')
  const device = option(invocation, 'device')
  const threads = whole(invocation, 'threads', MAX_THREADS)
  return {
    ...(name === undefined ? {} : { name }),
    ...(device === undefined ? {} : { device }),
    ...(threads === undefined ? {} : { threads }),
  }
}

/** @throws InputError `usage` for a format that does not exist. */
export function weightFormat(invocation: Invocation): WeightFormat {
  const text = option(invocation, 'weights') ?? 'fp32'
  const format = WEIGHT_FORMATS.find((known) => known === text)
  if (format === undefined)
    throw new InputError('usage', `--weights: expected ${WEIGHT_FORMATS.join(', ')}, got "${text}"`)
  return format
}

/** @throws InputError `usage` for a router that does not exist. */
export function routerChoice(invocation: Invocation): RouterChoice | undefined {
  const text = option(invocation, 'router')
  const choice = ROUTER_CHOICES.find((known) => known === text)
  if (text !== undefined && choice === undefined)
    throw new InputError('usage', `--router: expected ${ROUTER_CHOICES.join(', ')}, got "${text}"`)
  return choice
}

export async function passphraseOf(invocation: Invocation): Promise<string | undefined> {
  const file = option(invocation, 'passphrase-file')
  return file === undefined ? undefined : (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
}
