// Shows the camera in a video element.

import {Problem} from './problem.js';

// Throws a Problem without a camera or the permission to use it.
export async function start(video) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem(
      'This browser gives a page no camera here: only over https or from localhost.',
      'Take a photo with the camera app and choose it as an image.',
    );
  }
  try {
    const wish = {facingMode: 'environment', width: {ideal: 1920}, height: {ideal: 1080}};
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: wish, audio: false});
  } catch (error) {
    throw new Problem(REASONS[error.name] ?? `The camera cannot be used (${error.message}).`, 'Or choose an image file.');
  }
  await video.play();
}

export function stop(video) {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

const REASONS = {
  NotAllowedError: 'The camera was refused to this page: allow it in the browser, then try again.',
  NotFoundError: 'There is no camera on this device.',
  NotReadableError: 'The camera is in use by another program.',
};
