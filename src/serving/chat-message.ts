/**
 * The message of an assistant in the shape of `/v1/chat/completions`, whole or as deltas: its text and its calls of
 * tools. Knows nothing about engines and log-probabilities.
 */
import { ToolCallReader } from '../grammar/tool-call-reader.ts'

interface Call {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; arguments: string }
}

export class ChatMessageBuilder {
  readonly #reader: ToolCallReader | undefined
  readonly #calls: Call[] = []
  #text = ''

  /** @param callsTools whether the text may have calls of tools */
  constructor(callsTools: boolean) {
    this.#reader = callsTools ? new ToolCallReader() : undefined
  }

  /** The deltas that more text of the answer makes. */
  push(text: string): object[] {
    return this.#deltas(this.#reader?.push(text) ?? [{ kind: 'text', text }])
  }

  /** The last deltas. */
  end(): object[] {
    return this.#deltas(this.#reader?.flush() ?? [])
  }

  /** The whole message, after `end`. */
  get message(): object {
    const calls = this.#calls
    return {
      role: 'assistant',
      content: calls.length > 0 && this.#text === '' ? null : this.#text,
      refusal: null,
      annotations: [],
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    }
  }

  /** Why the answer ends, in the words of a chat. */
  finishReason(finish: 'stop' | 'length'): 'stop' | 'length' | 'tool_calls' {
    return finish === 'stop' && this.#calls.length > 0 ? 'tool_calls' : finish
  }

  #deltas(parts: ReturnType<ToolCallReader['push']>): object[] {
    const deltas: object[] = []
    for (const part of parts) {
      if (part.kind === 'text') {
        this.#text += part.text
        deltas.push({ content: part.text })
      } else if (part.kind === 'call') {
        const call: Call = {
          id: `call_${crypto.randomUUID()}`,
          type: 'function',
          function: { name: part.name, arguments: '' },
        }
        this.#calls.push(call)
        const begun = { ...call, function: { ...call.function } }
        deltas.push({ tool_calls: [{ index: this.#calls.length - 1, ...begun }] })
      } else if (part.kind === 'arguments') {
        const call = this.#calls.at(-1)
        if (call !== undefined) call.function.arguments += part.text
        const more = { index: this.#calls.length - 1, function: { arguments: part.text } }
        deltas.push({ tool_calls: [more] })
      }
    }
    return deltas
  }
}
