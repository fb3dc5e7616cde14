/**
 * A node of the sample model without experts, in a process of its own, which serves the inference API on a free port. For
 * checks of the API and its load, which do not depend on what the model says.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { homePaths } from '../../src/store/home.ts'
import { foundHome, ROOT, stopNode } from './node-process.ts'

export interface ServedNode {
  /** Ends with the version of the API. */
  readonly url: string
  readonly key: string
  readonly home: string
  readonly process: ChildProcess
  /** Ends the node and removes its home folder. */
  stop(): Promise<void>
}

const POLL_MS = 100

export async function serveNode(): Promise<ServedNode> {
  const work = await mkdtemp(join(tmpdir(), 'flexmesh-served-'))
  const home = join(work, 'home')
  await foundHome(home)
  const port = await freePort()
  const args = ['--import', 'tsx', join(ROOT, 'src', 'main.ts'), 'start', '--home', home, '--port', `${port}`]
  const node = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] })
  const stop = async (): Promise<void> => {
    await stopNode(node)
    await rm(work, { recursive: true, force: true })
  }
  try {
    const url = `http://127.0.0.1:${port}`
    while (!(await isHealthy(url))) {
      if (node.exitCode !== null) throw new Error('the node did not start')
      await pause(POLL_MS)
    }
    const key = (await readFile(homePaths(home).apiKey, 'utf8')).trim()
    return { url: `${url}/v1`, key, home, process: node, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function isHealthy(url: string): Promise<boolean> {
  return fetch(`${url}/healthz`).then(
    ({ ok }) => ok,
    () => false,
  )
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  server.close()
  await once(server, 'close')
  return address.port
}
