/** Entry of the thread that encodes prompts: loads its own tokenizer and encodes one prompt after the other. */
import { parentPort, workerData } from 'node:worker_threads'
import { FormatError } from '../lib/errors.ts'
import type { TextPrompt } from './chat.ts'
import { type ChatTemplate, renderChat, takesTools } from './chat-template.ts'
import { type ChatRenderer, encodePrompt } from './prompt.ts'
import { Tokenizer } from './tokenizer.ts'

export interface PromptThreadData {
  /** The bytes of `tokenizer.json`. */
  readonly tokenizer: Uint8Array
  /** Id of the token that separates documents. */
  readonly endOfText: number
  readonly template: ChatTemplate | undefined
}

/** From the thread: it has started, or it has encoded a prompt or refused it. */
export type PromptThreadMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'ids'; readonly ids: Int32Array }
  | {
      readonly kind: 'refused'
      readonly code: FormatError['code']
      readonly message: string
      readonly fields: FormatError['fields']
    }

const { tokenizer: json, endOfText, template } = workerData as PromptThreadData
const tokenizer = Tokenizer.load(json, [endOfText])
const renderer: ChatRenderer | undefined = template && {
  takesTools: takesTools(template),
  render: (messages, tools) => renderChat(template, messages, tools),
}

function send(message: PromptThreadMessage): void {
  parentPort?.postMessage(message)
}

parentPort?.on('message', (prompt: TextPrompt) => {
  try {
    send({ kind: 'ids', ids: encodePrompt(tokenizer, renderer, prompt) })
  } catch (error) {
    // Any other error ends the thread, which its owner reports.
    if (!(error instanceof FormatError)) throw error
    const { code, message, fields } = error
    send({ kind: 'refused', code, message, fields })
  }
})
send({ kind: 'ready' })
