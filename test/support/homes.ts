/** Home folders of nodes that belong to no consortium yet. */
import { join } from 'node:path'
import { initHome } from '../../src/node/found.ts'
import { folder } from './folders.ts'

/** A home folder with a key in the clear, whose node will listen on loopback. */
export async function newHome(institution = 'Test'): Promise<string> {
  const home = join(await folder(), 'home')
  const settings = { institution, listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
  await initHome(home, settings, { inTheClear: true })
  return home
}
