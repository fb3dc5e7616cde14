/**
 * A node in a process of its own, which the benchmarks of startup, memory and attacks talk to through its control socket.
 * What the node logs is kept in a file beside its home folder, and an error names the file's last lines.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ExchangeError, InputError } from '../../src/lib/errors.ts'
import { createConsortium, initHome } from '../../src/node/found.ts'
import { joinConsortium } from '../../src/node/join.ts'
import { callControl, isRunning } from '../../src/serving/control-client.ts'
import { homePaths } from '../../src/store/home.ts'

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** The built program. */
export const PROGRAM = join(ROOT, 'dist', 'src', 'main.js')
export const SETTINGS = { institution: 'Bench', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
/** Time between two looks at whether the node answers, ms. */
const POLL_MS = 10
/** Time that one command may take, ms. */
const COMMAND_MS = 600_000
/** Number of lines of a node's log that an error names. */
const LOG_LINES = 20

/** @throws InputError `usage` if the program was not built. */
export function checkBuilt(): void {
  if (!existsSync(PROGRAM)) throw new InputError('usage', `${PROGRAM} does not exist; run npm run build`)
}

/** Makes a home folder that has founded a consortium around the shipped model. */
export async function foundHome(home: string): Promise<void> {
  await initHome(home, SETTINGS, { inTheClear: true })
  const now = (): number => Math.floor(Date.now() / 1000)
  await createConsortium({ home, now }, { modelDir: join(ROOT, 'models', 'small'), name: 'Bench' })
}

/**
 * Starts `flexmesh start` and waits until the node answers.
 * @param program arguments of Node that name flexmesh
 * @param environment variables besides those of this process
 */
export async function startNode(
  program: readonly string[],
  home: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const args = [...program, 'start', '--home', home, '--port', '0']
  const log = await open(logOf(home), 'a')
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'ignore', log.fd],
    env: { ...process.env, ...environment },
  })
  await log.close()
  while (!(await isRunning(homePaths(home).control))) {
    if (hasEnded(child)) throw new Error(`the node did not start; ${await lastLines(home)}`)
    await pause(POLL_MS)
  }
  return child
}

/** Runs a command of the node that uses this home. */
export async function callNode(home: string, command: string, args: unknown): Promise<unknown> {
  const signal = AbortSignal.timeout(COMMAND_MS)
  try {
    return await callControl(homePaths(home).control, command, args, { signal })
  } catch (error) {
    if (!(error instanceof ExchangeError && error.code === 'unreachable')) throw error
    throw new Error(`${error.message}; ${await lastLines(home)}`, { cause: error })
  }
}

/** File with what the nodes of a home folder have logged. */
export function logOf(home: string): string {
  return `${home}.log`
}

async function lastLines(home: string): Promise<string> {
  const lines = (await readFile(logOf(home), 'utf8')).trimEnd().split('\n')
  return `the last lines of its log:\n${lines.slice(-LOG_LINES).join('\n')}`
}

export function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

export async function stopNode(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return
  child.kill('SIGTERM')
  await once(child, 'exit')
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
