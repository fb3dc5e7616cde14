/**
 * Keeps other processes out of the folder of a training while this process writes into it. A running node is asked to
 * leave the folder alone, and does until this process lets go or ends; without one, the home is locked.
 */
import { callControl, isRunning } from '../serving/control-client.ts'
import { Catalogue } from '../store/catalogue.ts'
import type { HomePaths } from '../store/home.ts'

/**
 * @param command for the message that other processes print meanwhile
 * @returns lets go of the folder.
 * @throws InputError `exists` while the node uses the folder, `home-in-use` while another process does.
 */
export async function holdTraining(
  { root, control }: HomePaths,
  name: string,
  command: string,
): Promise<() => Promise<void>> {
  if (!(await isRunning(control))) {
    const catalogue = await Catalogue.open(root, command)
    return () => catalogue.close()
  }
  const letGo = new AbortController()
  let ended: Promise<unknown> = Promise.resolve()
  await new Promise<void>((resolve, reject) => {
    ended = callControl(control, 'claim', { name }, { signal: letGo.signal, onProgress: () => resolve() })
    ended.then(() => resolve(), reject)
  })
  return async () => {
    letGo.abort()
    await ended.catch(() => undefined) // The node may have ended meanwhile.
  }
}
