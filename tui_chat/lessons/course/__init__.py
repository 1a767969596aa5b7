"""The course: ten short lessons on the loaded model, each with a task that the app sees done."""
