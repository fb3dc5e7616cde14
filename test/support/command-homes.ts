/** Home folders that the program itself created, as its users do. */
import { join } from 'node:path'
import { flexmesh } from './command-line.ts'
import { folder, SMALL_MODEL } from './folders.ts'
import { shortText } from './texts.ts'
import { tinyModel } from './tiny-model.ts'

/** A home that belongs to no consortium yet. */
export async function initialised(listen = '/ip4/127.0.0.1/tcp/0'): Promise<string> {
  const home = join(await folder(), 'home')
  await done(
    'init',
    '--home',
    home,
    '--institution',
    'Hospital',
    '--insecure',
    '--no-mdns',
    '--listen',
    listen,
  )
  return home
}

/**
 * The home of a founder.
 * @param model default: the tiny model, beside which no expert meets the acceptance policy
 */
export async function founded(model?: string, listen?: string): Promise<string> {
  const home = await initialised(listen)
  const dir = model ?? (await tinyModel())
  await done('consortium', 'create', '--home', home, '--public-model', dir, '--name', 'Test')
  return home
}

/** The home of a founder that has finished a training named `law`, and can publish it. */
export async function trained(): Promise<string> {
  const home = await founded(SMALL_MODEL)
  await done('train', '--home', home, '--name', 'law', '--data', await shortText('archive'), '--steps', '2')
  return home
}

async function done(...args: string[]): Promise<void> {
  const { code, stderr } = await flexmesh(...args)
  if (code !== 0) throw new Error(`flexmesh ${args.join(' ')}: ${stderr}`)
}
