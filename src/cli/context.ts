/** What every command gets, and readers of its options. */
import { readFile } from 'node:fs/promises'
import { InputError } from '../lib/errors.ts'
import type { Invocation } from './arguments.ts'
import type { Output } from './output.ts'

export interface CommandContext {
  readonly home: string
  readonly invocation: Invocation
  readonly output: Output
  readonly signal: AbortSignal
}

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
export function whole(invocation: Invocation, name: string, max: number): number | undefined {
  const text = option(invocation, name)
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0 || value > max) {
    throw new InputError('usage', `--${name}: expected a whole number from 0 to ${max}, got "${text}"`)
  }
  return value
}

export async function passphraseOf(invocation: Invocation): Promise<string | undefined> {
  const file = option(invocation, 'passphrase-file')
  return file === undefined ? undefined : (await readFile(file, 'utf8')).replace(/\r?\n$/, '')
}
