/** Serves a GGUF file with llama.cpp. Usage: forked with FILE THREADS CONTEXT; a message is one request. */
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const PACKAGE = 'node-llama-cpp'
const PEERS = new URL('../peers/package.json', import.meta.url)

/** The part of node-llama-cpp that is used: it is installed beside the peers, unknown to the compiler. */
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
// Resolved from the peers' folder: no dependency of this project.
const { resolve } = createRequire(PEERS)
const { getLlama } = (await import(pathToFileURL(resolve(PACKAGE)).href)) as LlamaModule
// Only the binary out of npm: nothing is downloaded or built.
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
