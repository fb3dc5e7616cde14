/**
 * Separates the text of an answer into text and calls of tools, while it is generated. Reads what tool-program.ts allows;
 * other text stays text. Knows nothing about requests.
 */
import { CALL_BEGIN, CALL_END } from './tool-program.ts'

/** A part of an answer, in order. */
export type AnswerPart =
  | { readonly kind: 'text'; readonly text: string }
  /** A call begins. */
  | { readonly kind: 'call'; readonly name: string }
  /** More of the arguments of the call, as JSON text. */
  | { readonly kind: 'arguments'; readonly text: string }
  /** The call is complete. */
  | { readonly kind: 'end' }

/** What a call begins with: a name, and then the arguments. */
const HEAD = /^\n?\{"name": ?("(?:[^"\\]|\\.)*"), ?"arguments": ?(?=\{)/

export class ToolCallReader {
  #state: 'text' | 'head' | 'arguments' | 'tail' = 'text'
  #rest = ''
  /** Number of open objects and lists of the arguments. */
  #depth = 0
  #isInString = false
  #isEscaped = false
  #hasCalls = false

  /** The parts that more text completes. */
  push(text: string): AnswerPart[] {
    this.#rest += text
    const parts: AnswerPart[] = []
    while (this.#step(parts)) {
      // Each step reads the rest up to the next change of state.
    }
    return parts
  }

  /** The text that was held back, at the end of the answer. */
  flush(): AnswerPart[] {
    const text = this.#rest
    this.#rest = ''
    return this.#state === 'text' && text.trim() !== '' ? [{ kind: 'text', text }] : []
  }

  /** @returns whether there may be more to read */
  #step(parts: AnswerPart[]): boolean {
    switch (this.#state) {
      case 'text':
        return this.#text(parts)
      case 'head': {
        const head = HEAD.exec(this.#rest)
        if (head === null) return false
        parts.push({ kind: 'call', name: String(JSON.parse(head[1] as string)) })
        this.#rest = this.#rest.slice(head[0].length)
        this.#state = 'arguments'
        return true
      }
      case 'arguments':
        return this.#arguments(parts)
      case 'tail': {
        const at = this.#rest.indexOf(CALL_END)
        if (at < 0) return false
        parts.push({ kind: 'end' })
        this.#rest = this.#rest.slice(at + CALL_END.length)
        this.#state = 'text'
        return true
      }
    }
  }

  #text(parts: AnswerPart[]): boolean {
    const at = this.#rest.indexOf(CALL_BEGIN)
    const length = at < 0 ? this.#rest.length - heldBack(this.#rest) : at
    const text = this.#rest.slice(0, length)
    // Between two calls there is white space.
    if (text !== '' && (!this.#hasCalls || text.trim() !== '')) parts.push({ kind: 'text', text })
    this.#rest = this.#rest.slice(length)
    if (at < 0) return false
    this.#rest = this.#rest.slice(CALL_BEGIN.length)
    this.#hasCalls = true
    this.#state = 'head'
    return true
  }

  #arguments(parts: AnswerPart[]): boolean {
    const text = this.#rest
    let length = 0
    let isComplete = false
    while (length < text.length && !isComplete) {
      const character = text[length++] as string
      if (this.#isEscaped) this.#isEscaped = false
      else if (this.#isInString) {
        if (character === '\\') this.#isEscaped = true
        else if (character === '"') this.#isInString = false
      } else if (character === '"') this.#isInString = true
      else if (character === '{' || character === '[') this.#depth++
      else if (character === '}' || character === ']') isComplete = --this.#depth === 0
    }
    if (length > 0) parts.push({ kind: 'arguments', text: text.slice(0, length) })
    this.#rest = text.slice(length)
    if (isComplete) this.#state = 'tail'
    return isComplete
  }
}

/** Number of characters at the end that may begin a call. */
function heldBack(text: string): number {
  for (let length = Math.min(text.length, CALL_BEGIN.length - 1); length > 0; length--)
    if (CALL_BEGIN.startsWith(text.slice(-length))) return length
  return 0
}
