/** The guest's driver broke the rules of its device: that device stops until it is reset. */
export class VirtioError extends Error {
  readonly code = 'ERR_VIRTIO_DRIVER';
  constructor(message: string) {
    super(message);
    this.name = 'VirtioError';
  }
}
