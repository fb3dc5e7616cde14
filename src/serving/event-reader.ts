/**
 * Reads server-sent events as the HTML standard (section 9.2.6) parses them: the data of each event, whatever the ends of
 * lines, comments and the chunks in which the bytes arrive. Knows nothing about what the data mean.
 */

/**
 * Data of every event. A last event without an empty line after it counts, too, because some servers end like that.
 * @param bytes the body of a response
 * @param maxCharacters maximum number of characters of a line, and of the data of an event
 * @throws RangeError if a line or an event is longer
 */
export async function* readEvents(
  bytes: AsyncIterable<Uint8Array>,
  maxCharacters: number,
): AsyncGenerator<string, void, void> {
  // Drops a byte order mark at the beginning, and joins characters that are split between chunks.
  const decoder = new TextDecoder()
  let data: string[] = []
  let size = 0
  const requireSize = (characters: number): void => {
    if (characters > maxCharacters) throw new RangeError(`an event of more than ${maxCharacters} characters`)
  }
  const read = (line: string): void => {
    if (line !== 'data' && !line.startsWith('data:')) return
    const value = line.slice('data:'.length).replace(/^ /, '')
    data.push(value)
    size += value.length
    requireSize(size)
  }
  const take = (): string => {
    const event = data.join('\n')
    data = []
    size = 0
    return event
  }
  let rest = ''
  for await (const chunk of bytes) {
    rest += decoder.decode(chunk, { stream: true })
    // A carriage return at the end may be the first half of a line end.
    const lines = rest.slice(0, rest.endsWith('\r') ? -1 : undefined).split(/\r\n|\n|\r/)
    rest = (lines.pop() ?? '') + (rest.endsWith('\r') ? '\r' : '')
    requireSize(rest.length)
    for (const line of lines) {
      if (line !== '') read(line)
      else if (data.length > 0) yield take()
    }
  }
  read(rest.replace(/\r$/, ''))
  if (data.length > 0) yield take()
}
