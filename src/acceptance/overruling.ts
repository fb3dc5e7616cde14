/** Why a package that the checks have accepted is not used, in the words of a verdict. Decides nothing. */

export interface Overruling {
  readonly check: string
  readonly code: string
  readonly reason: string
}

export const WITHDRAWN: Overruling = {
  check: 'withdrawal',
  code: 'withdrawn',
  reason: 'its owner took it back',
}

/** A refusal that only the operator can take back. */
export const REFUSED_BY_OPERATOR: Overruling = {
  check: 'operator',
  code: 'refused-by-operator',
  reason: 'the operator of this node refused it',
}

export function notCovered(publisher: string): Overruling {
  return {
    check: 'signer',
    code: 'not-a-member',
    reason: `${publisher} was taken off the roster before it published this`,
  }
}

export function forked(publisher: string): Overruling {
  return { check: 'chain', code: 'forked', reason: `${publisher} has signed two statements for one place` }
}

/** @param expiresAt end of the consent, Unix seconds */
export function expired(expiresAt: number): Overruling {
  return {
    check: 'validity',
    code: 'expired',
    reason: `its consent ended at ${new Date(expiresAt * 1000).toISOString()}`,
  }
}
