/**
 * Encodes prompts without holding the event loop: short texts at once, long ones and chats with a template in a thread
 * that starts when it is first needed. A prompt that takes too long or too much memory ends the thread, and only this
 * prompt fails. Knows nothing about queues and answers.
 */
import '../lib/node20.ts'
import type { Worker } from 'node:worker_threads'
import { FormatError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { startThread, threadEntry } from '../lib/start-thread.ts'
import { chatOf, type TextPrompt } from './chat.ts'
import type { ChatTemplate } from './chat-template.ts'
import { encodePrompt, PLAIN_TURN_ENDS } from './prompt.ts'
import type { PromptThreadData, PromptThreadMessage } from './prompt-thread.ts'
import type { Tokenizer } from './tokenizer.ts'

const ENTRY = threadEntry(import.meta.url, 'prompt-thread')
/** Texts of at most this many characters take a few milliseconds and are encoded at once. */
const SHORT_CHARACTERS = 4096
/** Time for which a thread without work is kept, ms. */
const IDLE_MS = 60_000
/** Heap of the thread: a tokenizer of 100,000 tokens takes about 100 MB, a text of 1 MiB another 50. */
const HEAP_MIB = 512

interface Job {
  readonly prompt: TextPrompt
  readonly characters: number
  readonly done: PromiseWithResolvers<Int32Array>
}

export interface PromptEncoderOptions {
  /** Maximum time for one prompt in milliseconds. Default: the limit `encodingTimeout`. */
  readonly timeout?: number
}

export class PromptEncoder {
  readonly #tokenizer: Tokenizer
  readonly #template: ChatTemplate | undefined
  readonly #timeout: number
  /** Prompts that wait for the thread, the shortest first. */
  readonly #waiting: Job[] = []
  #current: Job | undefined
  #worker: Worker | undefined
  #isReady = false
  #isClosed = false
  #timer: ReturnType<typeof setTimeout> | undefined

  /** @param template renders the messages of chats; without one they become plain lines */
  constructor(
    tokenizer: Tokenizer,
    template: ChatTemplate | undefined,
    { timeout = limit('encodingTimeout') }: PromptEncoderOptions = {},
  ) {
    this.#tokenizer = tokenizer
    this.#template = template
    this.#timeout = timeout
  }

  /** Maximum number of characters (UTF-16 code units) of a text that one token stands for. */
  get longestToken(): number {
    return this.#tokenizer.longestToken
  }

  /** One more than the largest token id. */
  get vocabularySize(): number {
    return this.#tokenizer.vocabSize
  }

  /** Texts before which the answer to a chat ends. */
  get turnEnds(): readonly string[] {
    return this.#template === undefined ? PLAIN_TURN_ENDS : []
  }

  /**
   * Token ids of a prompt, at least one.
   * @throws FormatError `bad-field` if the chat template fails, `too-large` for a prompt that takes more than the limit
   * `encodingTimeout` or too much memory; the reason of `signal`.
   */
  async encode(prompt: TextPrompt, signal: AbortSignal): Promise<Int32Array> {
    signal.throwIfAborted()
    if (this.#isClosed) throw new Error('the encoder of prompts is closed')
    const characters = charactersOf(prompt)
    const isPlain = typeof prompt === 'string' || this.#template === undefined
    if (isPlain && characters <= SHORT_CHARACTERS) return encodePrompt(this.#tokenizer, undefined, prompt)
    const job: Job = { prompt, characters, done: Promise.withResolvers() }
    const leave = (): void => this.#leave(job, signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    try {
      const next = this.#waiting.findIndex((other) => other.characters > characters)
      this.#waiting.splice(next < 0 ? this.#waiting.length : next, 0, job)
      this.#startNext()
      return await job.done.promise
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }

  /** End the thread. Prompts that are not encoded yet fail. */
  async close(): Promise<void> {
    this.#isClosed = true
    const worker = this.#worker
    const error = new Error('the encoder of prompts is closed')
    for (const job of this.#waiting.splice(0)) job.done.reject(error)
    this.#end(error)
    await worker?.terminate()
  }

  /** Forget a prompt that nobody waits for. The thread finishes the current one, in bounded time. */
  #leave(job: Job, reason: unknown): void {
    const index = this.#waiting.indexOf(job)
    if (index >= 0) this.#waiting.splice(index, 1)
    job.done.reject(reason)
  }

  #startNext(): void {
    if (this.#current !== undefined || this.#waiting.length === 0) return
    this.#worker ??= this.#start()
    if (!this.#isReady) return
    const job = this.#waiting.shift() as Job
    this.#current = job
    this.#worker.ref()
    this.#worker.postMessage(job.prompt)
    this.#after(this.#timeout, () =>
      this.#end(tooLarge(`takes longer than ${this.#timeout / 1000} s to encode; send a shorter one`)),
    )
  }

  #start(): Worker {
    const worker = startThread(ENTRY, {
      workerData: {
        tokenizer: this.#tokenizer.json,
        endOfText: this.#tokenizer.endOfText,
        template: this.#template,
      } satisfies PromptThreadData,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    })
    worker.on('message', (message: PromptThreadMessage) => {
      if (worker === this.#worker) this.#receive(message)
    })
    const onEnd = (error: unknown): void => {
      if (worker === this.#worker) this.#end(endOf(error))
    }
    worker.on('error', onEnd)
    worker.on('exit', () => onEnd(new Error('the thread that encodes prompts has ended')))
    return worker
  }

  #receive(message: PromptThreadMessage): void {
    const job = this.#current
    this.#current = undefined
    if (message.kind === 'ready') this.#isReady = true
    else if (message.kind === 'ids') job?.done.resolve(message.ids)
    else job?.done.reject(new FormatError(message.code, message.message, message.fields))
    // Without another prompt, the thread does not keep the process alive.
    this.#worker?.unref()
    this.#after(IDLE_MS, () => this.#end(new Error('the thread that encodes prompts was not needed')))
    this.#startNext()
  }

  /** End the thread with the prompt that it encodes; a thread that never became ready fails all that wait. */
  #end(error: Error): void {
    clearTimeout(this.#timer)
    const worker = this.#worker
    const failed = this.#isReady ? [] : this.#waiting.splice(0)
    if (this.#current !== undefined) failed.push(this.#current)
    this.#worker = undefined
    this.#current = undefined
    this.#isReady = false
    void worker?.terminate()
    for (const job of failed) job.done.reject(error)
    this.#startNext()
  }

  #after(ms: number, action: () => void): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(action, ms)
    this.#timer.unref()
  }
}

function charactersOf(prompt: TextPrompt): number {
  if (typeof prompt === 'string') return prompt.length
  const { messages, tools } = chatOf(prompt)
  const ofTools = tools.length === 0 ? 0 : JSON.stringify(tools).length
  return messages.reduce(
    (sum, { content, toolCalls = [] }) =>
      toolCalls.reduce((total, call) => total + call.arguments.length, sum + content.length),
    ofTools,
  )
}

/** Why a prompt failed whose thread has ended. */
function endOf(error: unknown): Error {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ERR_WORKER_OUT_OF_MEMORY')
    return tooLarge('takes too much memory to encode; send a shorter one')
  return error instanceof Error ? error : new Error(String(error))
}

function tooLarge(what: string): FormatError {
  return new FormatError('too-large', `the prompt ${what}`, { param: 'prompt' })
}
