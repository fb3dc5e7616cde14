/** The time limit of a dial, and one error text for each reason why a dial fails. */
import { ExchangeError } from '../lib/errors.ts'
import { linkSignals } from '../lib/linked-signal.ts'

/**
 * Run `dial` with a signal that ends it after `timeoutMs` or when `signal` aborts.
 * @param target what is dialled, for the error text.
 * @throws ExchangeError `aborted` when `signal` aborted; `refused` of `dial`; `unreachable` otherwise.
 */
export async function dialWithin<T>(
  target: string,
  timeoutMs: number,
  signal: AbortSignal,
  dial: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const tooLate = new AbortController()
  const timer = setTimeout(() => tooLate.abort(), timeoutMs)
  const either = linkSignals(signal, tooLate.signal)
  try {
    return await dial(either.signal)
  } catch (error) {
    if (signal.aborted) {
      throw new ExchangeError('aborted', `${target}: aborted before a connection was made`, { target }, error)
    }
    if (error instanceof ExchangeError && error.code === 'refused') throw error
    if (tooLate.signal.aborted || (error instanceof Error && error.name === 'TimeoutError')) {
      throw new ExchangeError(
        'unreachable',
        `${target} cannot be reached: no connection within ${timeoutMs} ms`,
        { target, timeoutMs },
        error,
      )
    }
    const reason = error instanceof Error ? error.message : String(error)
    throw new ExchangeError('unreachable', `${target} cannot be reached: ${reason}`, { target }, error)
  } finally {
    clearTimeout(timer)
    either.release()
  }
}
