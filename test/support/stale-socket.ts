/** Unix sockets whose process has ended without removing them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

const LISTEN = `
  require('node:net').createServer().listen(process.argv[1], () => process.stdout.write('listening'))
`

/** Leaves a socket at `path` that nobody listens on. */
export async function socketOfEndedProcess(path: string): Promise<void> {
  const child = spawn(process.execPath, ['-e', LISTEN, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
}
