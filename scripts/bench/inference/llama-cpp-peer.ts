/** Runs llama.cpp through node-llama-cpp in a process of its own, if it is installed in the folder of peers. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { CONTEXT } from '../reference-configs.ts'
import type { Run, Server } from './server.ts'

const MODULE = '../peers/node_modules/node-llama-cpp/'

/** Versions of node-llama-cpp and of the llama.cpp in it; undefined if it is not installed. */
export async function llamaCppVersion(): Promise<string | undefined> {
  try {
    const read = async (path: string): Promise<Record<string, unknown>> =>
      JSON.parse(await readFile(new URL(MODULE + path, import.meta.url), 'utf8')) as Record<string, unknown>
    const { version } = await read('package.json')
    const { release } = await read('llama/binariesGithubRelease.json')
    return `node-llama-cpp ${String(version)}, llama.cpp ${String(release)}`
  } catch {
    return undefined
  }
}

export async function startLlamaCpp(file: string, threads: number): Promise<Server> {
  const child = fork(
    fileURLToPath(new URL('./llama-cpp.child.ts', import.meta.url)),
    [file, String(threads), String(CONTEXT)],
    {
      execArgv: ['--import', 'tsx'],
      // node-llama-cpp decodes on Node's thread pool. If the pool has one thread, the kernel more often runs the
      // two compute threads on different cores.
      env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    },
  )
  await message(child)
  return {
    name: 'llama.cpp',
    // Its threads spin at a barrier after every operation, so while the kernel runs both on one core, a token
    // takes ten times as long. That is not a property of llama.cpp's kernels, so the best round counts.
    counts: 'best',
    run: async (prompt, newTokens) => {
      child.send({ prompt: [...prompt], newTokens })
      return (await message(child)) as Run
    },
    stop: async () => {
      child.kill()
      if (child.exitCode === null) await once(child, 'exit')
    },
  }
}

async function message(child: ChildProcess): Promise<unknown> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`llama.cpp exited with code ${String(code)}`)
  })
  const [value] = (await Promise.race([once(child, 'message'), ended])) as [unknown]
  ended.catch(() => undefined)
  return value
}
