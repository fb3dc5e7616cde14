/** Serves a GGUF file with llama.cpp. Forked with the arguments FILE THREADS CONTEXT; each message is one request. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const PACKAGE = 'node-llama-cpp'
const PEERS = new URL('../peers/package.json', import.meta.url)

/** The part used of node-llama-cpp, whose types the compiler does not see since it is installed with the peers. */
interface LlamaModule {
  getLlama(options: Record<string, unknown>): Promise<{
    loadModel(options: Record<string, unknown>): Promise<{
      createContext(options: Record<string, unknown>): Promise<{ getSequence(): Sequence }>
    }>
  }>
}
interface Sequence {
  evaluate(tokens: number[], options: Record<string, unknown>): AsyncGenerator<number, void, void>
  clearHistory(): Promise<void>
}

const [file = '', threads = '', context = ''] = process.argv.slice(2)
// Resolved from the folder of peers, since this project does not depend on it.
const { resolve } = createRequire(PEERS)
const { getLlama } = (await import(pathToFileURL(resolve(PACKAGE)).href)) as LlamaModule
// Uses the binary from npm; downloads and builds nothing.
const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  progressLogs: false,
  maxThreads: 0,
  logLevel: 'error',
})
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0, checkTensors: false })
const sequence = (
  await model.createContext({
    contextSize: Number(context),
    batchSize: Number(context),
    threads: Number(threads),
    flashAttention: true,
    sequences: 1,
  })
).getSequence()

process.on('message', (request: { prompt: number[]; newTokens: number }) => {
  void answer(request).then((run) => process.send?.(run))
})
process.send?.({ ready: true })

async function answer({ prompt, newTokens }: { prompt: number[]; newTokens: number }): Promise<unknown> {
  await sequence.clearHistory()
  const ids: number[] = []
  const started = performance.now()
  let first = started
  let last = started
  for await (const id of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    last = performance.now()
    if (ids.length === 0) first = last
    ids.push(id)
    if (ids.length === newTokens) break
  }
  return { ids, prefillMs: first - started, decodeMs: (last - first) / Math.max(1, ids.length - 1) }
}
