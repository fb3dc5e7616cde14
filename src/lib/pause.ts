/** Waits for time or for a signal. */
import { setTimeout } from 'node:timers/promises'
import { ExchangeError } from './errors.ts'

/**
 * Resolves after `ms` milliseconds.
 * @throws ExchangeError `aborted` as soon as the signal fires, or at once if it has.
 */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal }).catch((cause: unknown) => {
    throw new ExchangeError('aborted', 'interrupted', {}, cause)
  })
}

/** Resolves when the signal fires. */
export function interrupted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
