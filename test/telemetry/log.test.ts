import { describe, expect, it } from 'vitest'
import { ExchangeError } from '../../src/lib/errors.ts'
import { LOG_LEVELS, Log, type LogEntry, type LogLevel, logLine, SILENT } from '../../src/telemetry/log.ts'

function recording(level?: LogLevel): { log: Log; entries: LogEntry[] } {
  const entries: LogEntry[] = []
  return { log: new Log((entry) => entries.push(entry), level), entries }
}

describe('a log', () => {
  it.each(LOG_LEVELS)('at level %s passes entries of this level and more severe ones', (level) => {
    const { log, entries } = recording(level)
    for (const one of LOG_LEVELS) log[one](one)
    expect(entries.map(({ message }) => message)).toEqual(LOG_LEVELS.slice(0, LOG_LEVELS.indexOf(level) + 1))
  })

  it('passes warnings and errors by default', () => {
    const { log, entries } = recording()
    for (const one of LOG_LEVELS) log[one](one)
    expect(entries.map(({ level }) => level)).toEqual(['error', 'warn'])
  })

  it('names the part of the node and keeps the level for it', () => {
    const { log, entries } = recording('info')
    const part = log.scope('exchange')
    part.info('started')
    part.debug('not shown')
    expect(entries).toEqual([{ level: 'info', scope: 'exchange', message: 'started' }])
  })

  it('adds the message and the code of an error, and none of its fields', () => {
    const { log, entries } = recording()
    log.warn('the sync failed', new ExchangeError('timeout', 'no answer', { token: 'secret' }))
    log.error('the disk failed', new Error('EIO'))
    log.error('the worker failed', 'code 3')
    expect(entries.map(logLine)).toEqual([
      'warn node: the sync failed: no answer (timeout)',
      'error node: the disk failed: EIO',
      'error node: the worker failed: code 3',
    ])
  })

  it('keeps an entry on one line, whatever a peer wrote into an error', () => {
    const { log, entries } = recording()
    log.warn('refused', new Error('bad\nerror node: forged\r\u001b[2K\u2028\u202eend'))
    const line = logLine(entries[0] as LogEntry)
    expect(line).toBe('warn node: refused: bad\\u{a}error node: forged\\u{d}\\u{1b}[2K\\u{2028}\\u{202e}end')
  })

  it('drops everything when silent', () => {
    expect(SILENT.error('nobody reads this', new Error('lost'))).toBe(undefined)
    expect(SILENT.scope('part').warn('nor this')).toBe(undefined)
  })
})
