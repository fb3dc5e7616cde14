import { describe, expect, it } from 'vitest'
import { expertLabels, ShareTally, shortNames } from '../../src/composition/attribution.ts'

describe('attribution', () => {
  it('labels the public model first, then the experts in the order of the composition', () => {
    const experts = [
      { institution: 'Court', name: 'law' },
      { institution: 'Hospital', name: 'medicine' },
    ]
    expect(expertLabels({ experts })).toEqual([
      { institution: 'public model', expert: 'public' },
      { institution: 'Court', expert: 'law' },
      { institution: 'Hospital', expert: 'medicine' },
    ])
  })

  it('names an expert beside its institution only if the institution has several', () => {
    const [court, hospital] = ['Court', 'Hospital']
    const experts = [
      { institution: court, expert: 'law' },
      { institution: hospital, expert: 'medicine' },
      { institution: hospital, expert: 'nursing' },
    ]
    expect(shortNames(experts)).toEqual(['Court', 'Hospital/medicine', 'Hospital/nursing'])
  })

  it('averages the routing weights of all tokens', () => {
    const tally = new ShareTally(3)
    tally.add(Float32Array.of(0.5, 0.5, 0))
    tally.add(Float32Array.of(0.25, 0.25, 0.5))
    expect(tally.shares()).toEqual([0.375, 0.375, 0.25])
  })

  it('gives no share to anybody before the first token', () => {
    expect(new ShareTally(2).shares()).toEqual([0, 0])
  })
})
