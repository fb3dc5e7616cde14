/**
 * Runs work on a given TensorFlow.js backend. The current backend is global to the process, so the switch and the work
 * happen in one synchronous stretch: no other code can switch it in between. Does not know backends.
 */
import { engine, findBackend, setBackend } from '@tensorflow/tfjs-core'

/**
 * The result of `work`, run on the backend `name`; the previous backend is restored before this resolves.
 * @param work must be synchronous
 * @throws Error if the backend is not registered or cannot be initialised.
 */
export async function onBackend<T>(name: string, work: () => T): Promise<T> {
  // The first use initialises the backend asynchronously; later switches take effect immediately.
  if (findBackend(name) === null && !(await setBackend(name))) throw new Error(`backend ${name} is not ready`)
  const before = engine().backendName
  if (before !== name) void setBackend(name)
  try {
    return work()
  } finally {
    if (before !== name && before !== '' && before !== undefined) void setBackend(before)
  }
}
