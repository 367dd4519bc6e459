/** Why a guest could not be prepared. */
export type GuestErrorCode =
  /** A program this needs (apt-get, dpkg-deb, tar, xz) is not installed. */
  | 'ERR_GUEST_TOOL'
  /** The package is unknown to apt. */
  | 'ERR_GUEST_PACKAGE'
  /** Fetching failed, after retries. */
  | 'ERR_GUEST_FETCH'
  /** A fetched or given file is not what it should be. */
  | 'ERR_GUEST_FILE'
  /** Another process holds the cache's lock for too long. */
  | 'ERR_GUEST_LOCKED';

/** A guest that cannot be prepared: the message is one line for the user. */
export class GuestError extends Error {
  readonly code: GuestErrorCode;

  constructor(code: GuestErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'GuestError';
    this.code = code;
  }
}
