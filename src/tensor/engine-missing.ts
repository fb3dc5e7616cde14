/** The one refusal for an engine that does not run here: why, and the command that would change it. */
import { InputError } from '../lib/errors.ts'

/**
 * `what` is an engine, with its device where that matters. `fields` carries `reason` and `next` apart, for
 * tables; `next` is absent where no command helps.
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
