/** The error for an engine that cannot run on this machine: the reason, and the command that would fix it. */
import { InputError } from '../lib/errors.ts'

/**
 * InputError `engine-missing`.
 * @param what name of the engine, with its device if that matters
 * @param next command that would fix it; undefined if there is none. `fields` repeats `reason` and `next`, so that
 * tables can show them separately.
 */
export function engineMissing(what: string, reason: string, next?: string, cause?: unknown): InputError {
  const todo = next === undefined ? 'use' : `run "${next}", or use`
  return new InputError(
    'engine-missing',
    `engine ${what}: ${reason}; ${todo} --engine onnx --device cpu`,
    { reason, ...(next === undefined ? {} : { next }) },
    cause,
  )
}
