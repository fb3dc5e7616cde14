/** What the table of commands says about them. */
import { describe, expect, it } from 'vitest'
import { isReadOnly } from '../../src/commands/table.ts'

describe('a command that a reader of the dashboard may run', () => {
  it.each([
    ['proposals', {}],
    ['log', {}],
    ['withdrawals', {}],
    ['trainings', {}],
    ['privacy', {}],
    ['keys', { action: 'list' }],
    ['egress', { action: 'verify' }],
  ])('changes nothing: %s %o', (name, request) => {
    expect(isReadOnly(name, request)).toBe(true)
  })

  it.each([
    ['privacy', { action: 'limit', epsilon: '8' }],
    ['keys', { action: 'create', name: 'library' }],
    ['egress', { action: 'prune', before: 0 }],
    ['train', { name: 'law', data: ['/srv'], dryRun: true }],
    ['endorse', { id: 'abababab' }],
    ['forget', { name: 'law' }],
    ['unknown', {}],
  ])('is not one that acts or shows names of private files: %s %o', (name, request) => {
    expect(isReadOnly(name, request)).toBe(false)
  })
})
