"""What people look at in a browser, and the control API that programs call.

Promises that every path asks for the token, and that nothing written by others is run by the page.
Exports ``app.build``.
"""
