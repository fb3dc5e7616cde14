/**
 * TensorFlow.js has one backend for the whole process. Work on another one is done in one stretch, so that no other work,
 * which may want yet another, comes between the switch and the work. Knows no backend.
 */
import { engine, findBackend, setBackend } from '@tensorflow/tfjs'

/**
 * What `work` gives on that backend; the one before is back when this resolves. `work` must not wait.
 * @throws Error when the backend is not registered or cannot be made ready.
 */
export async function onBackend<T>(name: string, work: () => T): Promise<T> {
  // Made ready at first use, which may wait; from then on a switch takes effect at once.
  if (findBackend(name) === null && !(await setBackend(name))) throw new Error(`backend ${name} is not ready`)
  const before = engine().backendName
  if (before !== name) void setBackend(name)
  try {
    return work()
  } finally {
    if (before !== name && before !== '' && before !== undefined) void setBackend(before)
  }
}
