/** A node in a process of its own, which the benchmarks of startup and memory talk to through its control socket. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createConsortium, initHome } from '../../src/node/found.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { callControl, isRunning } from '../../src/serving/control-client.ts'
import { homePaths } from '../../src/store/home.ts'

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const SETTINGS = { institution: 'Bench', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
/** Time between two looks at whether the node answers, ms. */
const POLL_MS = 10
/** Time that one command may take, ms. */
const COMMAND_MS = 600_000

/** Makes a home folder that has founded a consortium around the shipped model. */
export async function foundHome(home: string): Promise<void> {
  await initHome(home, SETTINGS, { inTheClear: true })
  const now = (): number => Math.floor(Date.now() / 1000)
  await createConsortium({ home, now }, { modelDir: join(ROOT, 'models', 'small'), name: 'Bench' })
}

/** Starts `flexmesh start` and waits until the node answers. `program`: arguments of Node that name flexmesh. */
export async function startNode(program: readonly string[], home: string): Promise<ChildProcess> {
  const args = [...program, 'start', '--home', home, '--port', '0']
  const child = spawn(process.execPath, args, { stdio: 'ignore' })
  while (!(await isRunning(homePaths(home).control))) {
    if (child.exitCode !== null) throw new Error('the node did not start')
    await pause(POLL_MS)
  }
  return child
}

/** Runs a command of the node that uses this home. */
export function callNode(home: string, command: string, args: unknown): Promise<unknown> {
  return callControl(homePaths(home).control, command, args, { signal: AbortSignal.timeout(COMMAND_MS) })
}

export async function stopNode(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM')
  if (child.exitCode === null) await once(child, 'exit')
}

/** Makes a home folder that has joined the consortium of a running founder. */
export async function joinHome(home: string, memberHome: string): Promise<void> {
  await initHome(memberHome, { ...SETTINGS, institution: 'Member' }, { inTheClear: true })
  const { invite } = (await callNode(home, 'invite', {})) as { invite: string }
  const approving = new AbortController()
  const approve = async (): Promise<void> => {
    while (!approving.signal.aborted) {
      await callNode(home, 'approve', {}).catch(() => undefined) // Nobody waits yet.
      await pause(POLL_MS)
    }
  }
  const approved = approve()
  const now = (): number => Math.floor(Date.now() / 1000)
  await joinConsortium({ home: memberHome, now }, invite, AbortSignal.timeout(COMMAND_MS), () => undefined)
  approving.abort()
  await approved
}
